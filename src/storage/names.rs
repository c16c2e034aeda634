//! Names in the data directory: which file or folder means what.

use super::folder::{Entry, EntryKind};
use super::layout::{ALIGNMENT, POSITION_MAX};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// The lock file.
pub const LOCK: &str = "LOCK";
/// The file that says what the directory is.
pub const MARKER: &str = "MQD_DATA";
/// The folder of copies.
pub const QUARANTINE: &str = "damaged";
/// The file of a queue's settings, in its folder.
pub const SETTINGS: &str = "queue.settings";
/// What the folder of a queue begins with.
const QUEUE_PREFIX: &str = "q-";
/// What the folder of a dropped queue begins with; a number follows.
const DROPPED_PREFIX: &str = "dropped-";
/// Separates a cut name from the number that makes it unique; no encoded name contains it.
pub const CUT_MARK: char = '~';
/// The longest encoded name that is not cut, in bytes; file systems allow 255 with the prefix.
const ENCODED_MAX: usize = 200;
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// The encoding of a queue's name in its folder's name.
pub fn encode_name(name: &[u8]) -> String {
    percent_encode(name, PLAIN).to_string()
}

/// The name of a queue's folder; where it ends in [`CUT_MARK`], a number makes it unique.
pub fn folder_name(name: &[u8]) -> String {
    let mut folder = format!("{QUEUE_PREFIX}{}", encode_name(name));
    if folder.len() > ENCODED_MAX {
        folder.truncate(ENCODED_MAX);
        folder.push(CUT_MARK);
    }
    folder
}

/// The name that the folder of a dropped queue gets.
pub fn tombstone_name(number: u64) -> String {
    format!("{DROPPED_PREFIX}{number}")
}

/// The number in the name of a dropped queue's folder. Returns `None` if this is none.
pub fn dropped_number(folder: &str) -> Option<u64> {
    let digits = folder.strip_prefix(DROPPED_PREFIX)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Whether `folder` may be that of queue `name`; the headers in it tell it for certain.
pub fn may_hold(folder: &str, name: &[u8]) -> bool {
    let stem = folder_name(name);
    folder == stem || (stem.ends_with(CUT_MARK) && folder.starts_with(&stem))
}

/// The queue's name in its folder's name. Returns `None` if this is no queue's folder, and
/// `Some(None)` if the name was cut.
pub fn decode_folder(folder: &str) -> Option<Option<Vec<u8>>> {
    let encoded = folder.strip_prefix(QUEUE_PREFIX)?;
    if encoded.contains(CUT_MARK) {
        return Some(None);
    }
    let name: Vec<u8> = percent_decode_str(encoded).collect();
    // Only what this program writes is a queue's folder.
    (encode_name(&name) == encoded).then_some(Some(name))
}

/// The file name of the segment at `base`: 20 digits, so that names sort as positions do.
pub fn file_name(base: u64) -> String {
    format!("{base:020}.seg")
}

/// Returns the base in a segment's file name, or `None` if it names no segment.
pub fn base_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    let is_plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let base: Option<u64> = if is_plain { digits.parse().ok() } else { None };
    base.filter(|base| *base <= POSITION_MAX && base.is_multiple_of(ALIGNMENT as u64))
}

/// Whether something in a queue's folder is the file of the queue's settings.
pub fn is_settings(entry: &Entry) -> bool {
    entry.name == SETTINGS && entry.kind == EntryKind::File
}

/// Whether something in a queue's folder has the name of a segment.
pub fn is_segment(entry: &Entry) -> bool {
    entry.name.to_str().and_then(base_of).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_none_leaves_the_directory() {
        let long = [0xff; 60];
        let names: [&[u8]; 8] =
            [b"jobs", b"", b"..", b"../x", b"a/b", b"%2e~", "\u{fc}\n\0".as_bytes(), &long];
        for name in names {
            let folder = format!("{QUEUE_PREFIX}{}", encode_name(name));
            assert!(!folder.contains(['/', '.', CUT_MARK, '\0']), "{folder}");
            assert_eq!(decode_folder(&folder), Some(Some(name.to_vec())));
        }
    }

    #[test]
    fn what_is_no_queue_is_not_taken_for_one() {
        for folder in ["LOCK", "damaged", "dropped-1", "q-%zz", "q-a.b", "q-%61"] {
            assert_eq!(decode_folder(folder), None, "{folder}");
        }
        assert_eq!(decode_folder("q-abc~7"), Some(None));
    }

    #[test]
    fn file_names_sort_as_positions_do_and_are_read_back() {
        assert!(file_name(999) < file_name(1000));
        assert_eq!(base_of(&file_name(POSITION_MAX)), Some(POSITION_MAX));
        assert_eq!(base_of(&file_name(u64::MAX)), None);
        for name in ["1.seg", "0000000000000000000x.seg", "99999999999999999999.seg", "x"] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }
}
