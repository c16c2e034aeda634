//! One request's arguments, and the refusal of a request that cannot be executed.
//!
//! This file knows words and numbers and no command.

use crate::kv::KvError;
use crate::memory::NoMemory;
use crate::protocol::number::{parse_i64_canonical, parse_u64};
use crate::protocol::resp::Arguments;
use crate::queue::QueueError;
use std::borrow::Cow;

/// The most bytes of an option's name.
const LONGEST_OPTION: usize = 32;

/// The words of a request; word 0 is the command's name. Word `index` beyond the last is empty.
#[derive(Clone, Copy)]
pub(super) struct Args<'a> {
    request: &'a [u8],
    arguments: &'a Arguments,
}

impl<'a> Args<'a> {
    /// `arguments` is what the parser found in `request`.
    pub fn new(request: &'a [u8], arguments: &'a Arguments) -> Args<'a> {
        Args { request, arguments }
    }

    /// The bytes of the request as they came.
    pub fn request(self) -> &'a [u8] {
        self.request
    }

    pub fn len(self) -> usize {
        self.arguments.len()
    }

    pub fn is_empty(self) -> bool {
        self.arguments.is_empty()
    }

    pub fn is_inline(self) -> bool {
        self.arguments.is_inline()
    }

    pub fn get(self, index: usize) -> &'a [u8] {
        self.arguments.get(self.request, index)
    }

    /// Word 0 in small letters, as the commands are called.
    pub fn name(self) -> String {
        String::from_utf8_lossy(self.get(0)).to_ascii_lowercase()
    }

    /// The words from `first` on.
    pub fn from(self, first: usize) -> impl Iterator<Item = &'a [u8]> + Clone {
        (first..self.len()).map(move |index| self.get(index))
    }

    /// True where word `index` is `word`, in capitals or not; `word` is in small letters.
    pub fn is(self, index: usize, word: &str) -> bool {
        debug_assert!(!word.bytes().any(|byte| byte.is_ascii_uppercase()), "{word} has capitals");
        self.get(index).iter().map(u8::to_ascii_lowercase).eq(word.bytes())
    }

    /// Word `index` in small letters; nothing of one that is longer than any option's name.
    pub fn option(self, index: usize) -> Vec<u8> {
        let word = Some(self.get(index)).filter(|word| word.len() <= LONGEST_OPTION);
        word.unwrap_or_default().to_ascii_lowercase()
    }

    /// Word `index` as a number, written the one way that Redis reads.
    pub fn integer(self, index: usize) -> Result<i64, Refusal> {
        parse_i64_canonical(self.get(index)).ok_or(NOT_AN_INTEGER.into())
    }

    /// Word `index` as a cursor of SCAN.
    pub fn cursor(self, index: usize) -> Result<u64, Refusal> {
        parse_u64(self.get(index)).ok_or("ERR invalid cursor".into())
    }
}

pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(super) const SYNTAX_ERROR: &str = "ERR syntax error";

/// Why a request is not executed.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The error reply after its `-`. The reply's encoder makes it one line.
    pub text: Cow<'static, [u8]>,
    /// Nothing is refused: the command is to be called again.
    pub again: Option<Again>,
}

/// When a command is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// When others have had their turn.
    NextTurn,
    /// When the client is woken: it waits for a message.
    Woken,
    /// When the indexes of its queues are built, or have been built a bit further.
    Indexed,
}

/// What executing a request gives: its reply has been written, or it is refused.
pub(super) type Outcome = Result<(), Refusal>;

impl Refusal {
    fn new(text: Cow<'static, [u8]>) -> Refusal {
        Refusal { text, again: None }
    }

    /// The command has more to do, or could not begin.
    pub fn again(when: Again) -> Refusal {
        Refusal { text: Cow::Borrowed(b""), again: Some(when) }
    }

    /// The arity of `name` (`config|get` for a subcommand) does not allow this many words.
    pub fn arity(name: &str) -> Refusal {
        format!("ERR wrong number of arguments for '{name}' command").into()
    }

    /// `before`, at most 128 bytes of a client's word, `after`.
    pub fn quoting(before: &str, word: &[u8], after: &str) -> Refusal {
        Refusal::new([before.as_bytes(), quoted(word, 128), after.as_bytes()].concat().into())
    }

    /// The text for a command that does not exist, with the beginning of its arguments.
    pub fn unknown_command(args: Args<'_>) -> Refusal {
        let mut shown = Vec::new();
        for word in args.from(1) {
            if shown.len() >= 128 {
                break;
            }
            let room = 128 - shown.len();
            shown.push(b'\'');
            shown.extend_from_slice(quoted(word, room));
            shown.extend_from_slice(b"' ");
        }
        let start =
            Refusal::quoting("ERR unknown command '", args.get(0), "', with args beginning with: ");
        Refusal::new([&*start.text, &shown].concat().into())
    }
}

/// What Redis shows of a word: its beginning, up to a NUL.
fn quoted(word: &[u8], most: usize) -> &[u8] {
    let word = word.get(..most).unwrap_or(word);
    let end = word.iter().position(|&byte| byte == 0).unwrap_or(word.len());
    &word[..end]
}

impl From<&'static str> for Refusal {
    fn from(text: &'static str) -> Refusal {
        Refusal::new(text.as_bytes().into())
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal::new(text.into_bytes().into())
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Refusal {
        match error {
            QueueError::NotIndexed => return Refusal::again(Again::Indexed),
            QueueError::Busy => return Refusal::again(Again::NextTurn),
            _ => {}
        }
        let is_memory = matches!(error, QueueError::OutOfMemory { .. } | QueueError::NoMemory(_));
        format!("{} {error}", if is_memory { "OOM" } else { "ERR" }).into()
    }
}

impl From<KvError> for Refusal {
    fn from(error: KvError) -> Refusal {
        let kind = if error == KvError::KeyTooLong { "ERR" } else { "OOM" };
        format!("{kind} {error}").into()
    }
}

impl From<NoMemory> for Refusal {
    fn from(error: NoMemory) -> Refusal {
        format!("OOM {error}").into()
    }
}
