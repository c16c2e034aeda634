//! Stories of what came between two steps that belong together.

use super::bench::*;
use memmap2::MmapOptions;
use mq::queue::{
    Backing, DiskBacking, Durability, Limits, MessageStore, NamedStore, Policy, QueueError, Queues,
    ReplyVerdict, Ticket,
};
use mq::session::redis::RedisSession;
use mq::session::{NewClient, Session, Settings, Shared, Store};
use mq::storage::format::{Footer, SegmentHeader, base_of};
use mq::storage::{DataDirectory, NewMessage, StorageError};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn disk(root: &Path) -> DiskBacking {
    DiskBacking::new(DataDirectory::open(root, SMALL, false).unwrap())
}

fn new_message(body: &[u8]) -> NewMessage<'_> {
    NewMessage { body, flags: 0, expires_ms: 0 }
}

/// From so many times on, making drops durable panics.
const PANICS: usize = usize::MAX / 2;

/// Queues on disk that note how often drops were made durable.
struct Settling(DiskBacking, Arc<AtomicUsize>);

impl Backing for Settling {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        self.0.existing()
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        self.0.create(name)
    }

    fn settle(&self) -> Result<(), QueueError> {
        let before = self.1.fetch_add(1, Ordering::Relaxed);
        assert!(before < PANICS, "a commit panics on purpose");
        self.0.settle()
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }
}

/// A queue that was popped empty made room for another one before the pop had been synced. Its
/// folder was renamed, which nothing made durable, and the commit found no queue to sync: the pop
/// was answered, and a power cut brought its message back.
#[test]
fn a_pop_is_durable_also_when_its_queue_has_made_room_for_another() {
    let root = tempfile::tempdir().unwrap();
    let settled = Arc::new(AtomicUsize::new(0));
    let backing = Box::new(Settling(disk(root.path()), Arc::clone(&settled)));
    let limits = Limits { max_queues: 1, max_queue_len: 10 };
    let queues = Queues::open(backing, limits, Policy::Always).unwrap();
    let mut ticket = Ticket::default();
    let message = new_message(b"m");
    queues.create(b"one", &mut ticket, |queue| queue.push(&message)).unwrap();
    queues.commit();
    let popped = queues.find(b"one", &mut ticket, |queue| queue.pop(|_| ())).unwrap();
    assert_eq!(popped, Some(Some(())));
    queues.create(b"two", &mut ticket, |queue| queue.push(&message)).unwrap();
    assert!(!root.path().join("q-one").exists(), "the first queue has not made room");
    let before = settled.load(Ordering::Relaxed);
    queues.commit();
    assert_eq!(queues.verdict(&ticket), ReplyVerdict::Leave);
    assert!(settled.load(Ordering::Relaxed) > before, "its drop is not durable");
}

/// The commit after it called durable what it had taken and not finished.
#[test]
fn a_commit_that_panics_answers_for_what_it_has_taken() {
    let root = tempfile::tempdir().unwrap();
    let settled = Arc::new(AtomicUsize::new(0));
    let backing = Box::new(Settling(disk(root.path()), Arc::clone(&settled)));
    let limits = Limits { max_queues: 10, max_queue_len: 10 };
    let queues = Queues::open(backing, limits, Policy::Always).unwrap();
    let (mut lost, mut other) = (Ticket::default(), Ticket::default());
    queues.create(b"lost", &mut lost, |queue| queue.push(&new_message(b"m"))).unwrap();
    settled.store(PANICS, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| queues.commit())).is_err());
    settled.store(0, Ordering::Relaxed);
    queues.create(b"other", &mut other, |queue| queue.push(&new_message(b"m"))).unwrap();
    queues.commit();
    assert_eq!(queues.verdict(&lost), ReplyVerdict::Never);
    assert_eq!(queues.verdict(&other), ReplyVerdict::Leave);
}

/// A removal came upon damage at the head, which gives the index up, and the next one of the same
/// command answered that nothing had been done: the command was run again, and its answer did not
/// count what was gone already.
#[test]
fn a_command_that_has_removed_something_is_not_begun_again() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { max_queues: 10, max_queue_len: 1000 };
    let queues = Queues::open(Box::new(disk(root.path())), limits, Policy::Always).unwrap();
    let mut ticket = Ticket::default();
    for number in 0..300_u64 {
        let body = number.to_le_bytes();
        queues.create(b"q", &mut ticket, |queue| queue.push(&new_message(&body))).unwrap();
    }
    while !queues.prepare_membership(b"q").unwrap() {}
    let oldest = root.path().join("q-q").join(format!("{:020}.seg", 0));
    let mut file = fs::OpenOptions::new().write(true).open(oldest).unwrap();
    file.seek(SeekFrom::Start(CURSORS.end as u64 + ROT as u64)).unwrap();
    file.write_all(&[0xff]).unwrap();
    let shared = Shared::new(Store::Queues(Arc::new(queues)), Settings::default(), Arc::default());
    let mut session = RedisSession::new(Arc::new(shared), NewClient::detached(1));
    let bodies = [200_u64, 250].map(u64::to_le_bytes);
    let words: [&[u8]; 4] = [b"SREM", b"q", &bodies[0], &bodies[1]];
    let mut request = b"*4\r\n".to_vec();
    for word in words {
        request.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
    }
    let (mut output, mut turns) = (Vec::new(), 0);
    while session.advance(&request, &mut output).again {
        turns += 1;
        assert!(turns < 100, "it never ends");
    }
    assert_eq!(output, b":2\r\n");
}

fn pop(bench: &mut Bench) -> bool {
    let oldest = bench.log.next(0).unwrap().map(|(place, _)| place);
    oldest.is_some_and(|place| bench.log.remove(place).is_ok())
}

fn read_files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// On a full disk an empty queue gave its newest segment away while a sync was under way that had
/// yet to unlink an older one. Only the newest said that the older one was dead: a power cut then
/// brought messages back that had been answered as popped.
#[test]
fn an_empty_queue_does_not_start_over_while_dead_segments_are_on_their_way_out() {
    let shared_memory = Path::new("/dev/shm");
    if !shared_memory.is_dir() {
        return;
    }
    let root = tempfile::tempdir_in(shared_memory).unwrap();
    let directory = DataDirectory::open(root.path(), SMALL, false).unwrap();
    let log = directory.create_log(b"q").unwrap();
    let mut bench = Bench { log, directory, root, segment_size: SMALL };
    (1..=102_u64).for_each(|number| bench.push(number.to_le_bytes()));
    for _ in 0..82 {
        pop(&mut bench);
    }
    bench.sync();
    let folder = bench.root.path().join("q-q");
    let durable = read_files(&folder);
    assert_eq!(durable.len(), 2);
    while pop(&mut bench) {}
    let (_under_way, _) = bench.log.begin_sync().unwrap();
    // More than there is room for; no byte of it is looked at.
    let length = fs2::total_space(shared_memory).unwrap() as usize + 1;
    let large = MmapOptions::new().len(length).no_reserve_swap().map_anon().unwrap();
    let refused = bench.log.push(&new_message(&large), 1);
    assert!(matches!(refused, Err(StorageError::Full { .. })), "{refused:?}");
    // A power cut leaves what was synced, and of a new segment its header.
    let left = tempfile::tempdir().unwrap();
    fs::create_dir(left.path().join("q-q")).unwrap();
    for (path, mut bytes) in read_files(&folder) {
        match durable.get(&path) {
            Some(synced) => bytes.clone_from(synced),
            None => bytes[CURSORS.start..].fill(0),
        }
        fs::write(left.path().join("q-q").join(path.file_name().unwrap()), bytes).unwrap();
    }
    let reopened = DataDirectory::open(left.path(), SMALL, false).unwrap();
    let lengths: Vec<u64> = reopened.open_logs().unwrap().iter().map(|log| log.len()).collect();
    assert_eq!(lengths, [20], "those are back whose pops were answered");
}

/// Footers were drafted under the queue's lock, which was given back and taken at once, slice by
/// slice: whoever pushed millions of messages stood still for a quarter of every second. Now that
/// work has nothing of the log but the segment it is about.
#[test]
fn a_footer_is_right_whatever_the_log_does_meanwhile() {
    let mut bench = Bench::numbered(LARGE, 3000);
    let works: Vec<_> = std::iter::from_fn(|| bench.log.write_footer()).collect();
    let sealed: Vec<PathBuf> = files(bench.root.path()).into_iter().take(works.len()).collect();
    assert!(works.len() >= 3, "{} sealed segments", works.len());
    let writer = std::thread::spawn(move || works.into_iter().map(|work| work()).collect());
    for number in 1..=3000_u64 {
        bench.push(number.to_le_bytes());
        if number % 3 > 0 {
            bench.remove(number);
        }
        if number % 100 == 0 {
            bench.sync();
            bench.log.rest();
        }
    }
    let outcomes: Vec<std::io::Result<()>> = writer.join().unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    for path in &sealed {
        let file = fs::read(path).unwrap();
        let base = base_of(path.file_name().unwrap().to_str().unwrap()).unwrap();
        let size = SegmentHeader::decode(base, &file).unwrap().1 as usize;
        assert!(
            Footer::decode(base, &file[size..]).is_ok_and(|footer| footer.is_some()),
            "no footer: {}",
            path.display()
        );
    }
    let left = bench.numbers();
    let Bench { log, directory, root, segment_size } = bench;
    drop((log, directory));
    // A strict start compares them with the records.
    let strict = DataDirectory::open(root.path(), segment_size, true).unwrap();
    let log = strict.open_logs().unwrap().pop().unwrap();
    let mut bench = Bench { log, directory: strict, root, segment_size };
    assert_eq!(bench.numbers(), left);
}

/// The same, where the segment is gone before its footer comes.
#[test]
fn a_footer_that_comes_too_late_makes_no_file() {
    let mut bench = Bench::numbered(SMALL, 1000);
    let works: Vec<_> = std::iter::from_fn(|| bench.log.write_footer()).collect();
    assert!(works.len() >= 3, "{} sealed segments", works.len());
    assert_eq!(bench.pop_all(), numbers_to(1000));
    bench.sync();
    let before = read_files(bench.log.directory());
    for work in works {
        work().unwrap();
    }
    assert_eq!(read_files(bench.log.directory()), before);
}
