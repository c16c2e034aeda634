//! What the storage does with time, memory and disk: `cargo bench --bench storage [-- NAME ...]`.
//!
//! - `churn`: 100,000 messages, each removed and pushed again in random order, and one old message
//!   that stays. The disk use must stay under four times the live bytes and two segments.
//! - `backlog`: ten million messages of 100 bytes pushed and popped: rates of the first and of the
//!   last tenth, memory, and the time to open the log again.
//! - `indexed`: the same with the index, which is asked before each push.
//! - `building`: the index of such a backlog, made when it is there.
//! - `queues`: ten thousand queues of one message: disk, memory, time to open, beside what only the
//!   operations on their files take.
//!
//! What must hold on any machine, bytes of disk and memory, is asserted; times are only printed.
//! `MQ_BENCH_SCALE=100` divides the counts by 100. Everything runs in one process on the disk store
//! with `everysec`, in the directory that `TMPDIR` names; `TMPDIR=/dev/shm` leaves the device out.

#![allow(clippy::unwrap_used)]

use memmap2::MmapOptions;
use mq::queue::{DiskBacking, Durability, Limits, NewMessage, Policy, Queue, Queues, Ticket};
use mq::storage::DataDirectory;
use mq::storage::format::RECORDS;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SEGMENT_SIZE: u64 = 64 << 20;
const LIMITS: Limits = Limits { max_queues: 20_000, max_queue_len: u64::MAX };
const QUEUE: &[u8] = b"bench";
const SECOND: Duration = Duration::from_secs(1);

/// The queues of a daemon, with its housekeeping and its sync every second.
struct Engine {
    queues: Arc<Queues>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Engine {
    fn open(path: &Path) -> Engine {
        let directory = DataDirectory::open(path, SEGMENT_SIZE, false).unwrap();
        let backing = Box::new(DiskBacking::new(directory));
        let queues = Arc::new(Queues::open(backing, LIMITS, Policy::EverySecond).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let repeat = |work: fn(&Queues)| {
            let (queues, stop) = (Arc::clone(&queues), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work(&queues);
                }
            })
        };
        let sync = repeat(|queues| {
            queues.commit();
            thread::park_timeout(SECOND);
        });
        let tidy = repeat(|queues| queues.keep_house(&mut Instant::now()));
        let threads = vec![sync, tidy];
        Engine { queues, stop, threads }
    }

    fn push(&self, body: &[u8]) {
        let message = NewMessage { body, flags: 0, expires_ms: 0 };
        let mut ticket = Ticket::default();
        self.queues.create(QUEUE, &mut ticket, |queue| queue.push(&message)).unwrap();
    }

    fn push_unique(&self, body: &[u8]) {
        let message = NewMessage { body, flags: 0, expires_ms: 0 };
        let mut ticket = Ticket::default();
        while !self.queues.prepare_membership(QUEUE).unwrap() {}
        let push = |queue: &mut Queue| queue.push_unique(&message);
        assert!(self.queues.create(QUEUE, &mut ticket, push).unwrap());
    }

    fn pop(&self) -> bool {
        let mut ticket = Ticket::default();
        let popped = self.queues.find(QUEUE, &mut ticket, |queue| queue.pop(|_| ())).unwrap();
        popped.flatten().is_some()
    }

    fn remove(&self, body: &[u8]) {
        let mut ticket = Ticket::default();
        while !self.queues.prepare_membership(QUEUE).unwrap() {}
        let removed = self.queues.find(QUEUE, &mut ticket, |queue| queue.remove(body)).unwrap();
        assert_eq!(removed, Some(1));
    }

    fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.thread().unpark();
            thread.join().unwrap();
        }
        self.queues.close();
    }
}

fn body(number: u64) -> [u8; 100] {
    let mut body = [b'x'; 100];
    body[..20].copy_from_slice(format!("{number:020}").as_bytes());
    body
}

/// Bytes that the files below `path` take on the device.
fn disk_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // It was removed since.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Resident memory without mapped files, in bytes.
fn anonymous_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn scaled(count: u64) -> u64 {
    let scale = std::env::var("MQ_BENCH_SCALE").ok().and_then(|text| text.parse().ok());
    count / scale.unwrap_or(1).max(1)
}

fn churn() {
    let (set, operations) = (scaled(100_000).max(100), scaled(10_000_000));
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path());
    engine.push(b"the old message that is never removed");
    let mut numbers: Vec<u64> = (0..set).collect();
    numbers.iter().for_each(|number| engine.push(&body(*number)));
    let most = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (stop, most) = (Arc::clone(&engine.stop), Arc::clone(&most));
        let path = directory.path().to_path_buf();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(disk_bytes(&path), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let (mut random, mut next) = (0x9e37_79b9_7f4a_7c15_u64, set);
    let (mut slowest, start) = (Duration::ZERO, Instant::now());
    for _ in 0..operations / 2 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let chosen = (random >> 11) as usize % numbers.len();
        engine.remove(&body(numbers[chosen]));
        let before = Instant::now();
        engine.push(&body(next));
        slowest = slowest.max(before.elapsed());
        numbers[chosen] = next;
        next += 1;
    }
    let rate = operations as f64 / start.elapsed().as_secs_f64();
    let live = (set + 1) * 160;
    let limit = 4 * live + 2 * SEGMENT_SIZE;
    engine.close();
    watcher.join().unwrap();
    let most = most.load(Ordering::Relaxed);
    println!(
        "churn: {operations} operations, {rate:.0}/s; live {:.1} MiB, disk at most {:.1} MiB \
         of the {:.1} MiB allowed; slowest push {slowest:.1?}",
        mib(live),
        mib(most),
        mib(limit)
    );
    assert!(most < limit, "the disk use is over its limit");
}

/// Runs `work` for each number up to `count`; answers the rates of the first and of the last tenth.
fn tenths(count: u64, mut work: impl FnMut(u64)) -> (f64, f64) {
    let tenth = count / 10;
    let mut times = Vec::new();
    for part in 0..10 {
        let start = Instant::now();
        (part * tenth..(part + 1) * tenth).for_each(&mut work);
        times.push(tenth as f64 / start.elapsed().as_secs_f64());
    }
    (times[0], times[9])
}

/// Pushes and pops the backlog; answers the memory that it took, in bytes.
fn backlog_of(name: &str, push: impl Fn(&Engine, &[u8])) -> u64 {
    let count = scaled(10_000_000);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path());
    let say = |what: &str, (first, last): (f64, f64)| {
        let ratio = last / first;
        println!(
            "{name}: {what} {first:.0}/s in the first tenth, {last:.0}/s in the last ({ratio:.2})"
        );
    };
    say("push", tenths(count, |number| push(&engine, &body(number))));
    let memory = anonymous_memory();
    let disk = mib(disk_bytes(directory.path()));
    println!("{name}: memory {:.1} MiB, disk {disk:.0} MiB", mib(memory));
    engine.close();
    let start = Instant::now();
    let engine = Engine::open(directory.path());
    println!("{name}: opened after a clean stop in {:.2?}", start.elapsed());
    say("pop", tenths(count, |_| assert!(engine.pop())));
    assert!(!engine.pop());
    engine.close();
    memory
}

fn backlog() {
    let memory = backlog_of("backlog", Engine::push);
    assert!(memory < 100_000_000, "pushed and popped only, it took {memory} bytes of memory");
}

fn indexed() {
    let memory = backlog_of("indexed", Engine::push_unique);
    assert!(memory < 400_000_000, "with the index it took {memory} bytes of memory");
}

fn building() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path());
    (0..scaled(10_000_000)).for_each(|number| engine.push(&body(number)));
    let start = Instant::now();
    while !engine.queues.prepare_membership(QUEUE).unwrap() {}
    println!("building: the index of the backlog in {:.2?}", start.elapsed());
    engine.close();
}

/// How long it takes only to list the folders below `path`, and to open, read and map each file in
/// them, without a look at what they say.
fn file_operations(path: &Path) -> Duration {
    let start = Instant::now();
    let mut sum = 0_u64;
    let folders = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|folder| folder.is_dir()) {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let mut head = [0; RECORDS];
            fs::File::open(&path).unwrap().read_exact(&mut head).unwrap();
            let file = fs::File::options().read(true).write(true).open(&path).unwrap();
            let length = file.metadata().unwrap().len() as usize;
            let map = MmapOptions::new().len(length).map_raw(&file).unwrap();
            // The first record and the end of the log are looked at.
            // SAFETY: both offsets are within the map, and nobody else has the file.
            let seen = unsafe { [RECORDS, length - 1].map(|at| map.as_ptr().add(at).read()) };
            sum += u64::from(head[0]) + u64::from(seen[0]) + u64::from(seen[1]);
        }
    }
    std::hint::black_box(sum);
    start.elapsed()
}

fn queues() {
    let count = scaled(10_000);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(directory.path());
    let message = NewMessage { body: b"one message", flags: 0, expires_ms: 0 };
    let start = Instant::now();
    for number in 0..count {
        let mut ticket = Ticket::default();
        let name = format!("queue {number}");
        let push = |queue: &mut Queue| queue.push_unique(&message);
        engine.queues.create(name.as_bytes(), &mut ticket, push).unwrap();
    }
    let made = start.elapsed();
    let (disk, memory) = (disk_bytes(directory.path()), anonymous_memory());
    let (shown_disk, shown_memory) = (mib(disk), mib(memory));
    println!(
        "queues: {count} made in {made:.2?}; disk {shown_disk:.1} MiB, memory {shown_memory:.1} MiB"
    );
    assert!(disk < 200_000_000 && memory < 200_000_000, "{disk} and {memory} bytes are too many");
    engine.close();
    let bare = file_operations(directory.path());
    let start = Instant::now();
    let engine = Engine::open(directory.path());
    let (opened, memory) = (start.elapsed(), mib(anonymous_memory()));
    let ratio = opened.as_secs_f64() / bare.as_secs_f64();
    println!(
        "queues: opened in {opened:.2?}, memory {memory:.1} MiB; file operations alone {bare:.2?} \
         ({ratio:.2})"
    );
    assert_eq!(engine.queues.len() as u64, count);
    engine.close();
}

fn main() {
    let all: [(&str, fn()); 5] = [
        ("churn", churn),
        ("backlog", backlog),
        ("indexed", indexed),
        ("building", building),
        ("queues", queues),
    ];
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|arg| arg == name) {
            run();
        }
    }
}
