//! Rules 17 and 19: what fails costs one queue, and is an error.
//!
//! Disks that are full, read-only or rotten are in `tests/faults`.

use super::bench::*;
use crate::common::{Daemon, request};
use mq::queue::{
    DiskBacking, Durability, Limits, Policy, Queue, QueueError, Queues, ReplyVerdict, Ticket,
    Waiting,
};
use mq::storage::{DataDirectory, StorageError};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use tempfile::TempDir;

/// A data directory with the queues `good` and `bad`, a message in each.
fn good_and_bad() -> TempDir {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 8 * 1024, false).unwrap();
    for name in [&b"good"[..], b"bad"] {
        let mut log = directory.create_log(name).unwrap();
        log.push(&new_message(b"m"), 1).unwrap();
        log.sync_now().unwrap();
    }
    root
}

fn serve(root: &Path) -> Queues {
    let directory = open_directory(root, 8 * 1024, false).unwrap();
    let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
    Queues::open(Box::new(DiskBacking::new(directory)), limits, Policy::Always).unwrap()
}

fn pop(queues: &Queues, name: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    let pop = |queue: &mut Queue| queue.pop(|message| message.body.to_vec());
    Ok(queues.find(name, &mut Ticket::default(), pop)?.flatten())
}

fn push(queues: &Queues, name: &[u8]) -> Result<(), QueueError> {
    queues.create(name, &mut Ticket::default(), |queue| queue.push(&new_message(b"n")))
}

/// One queue's folder that could not be read refused the start of all.
#[test]
fn rule_17_a_queue_that_cannot_be_opened_is_closed_and_costs_no_other() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 3] = [
        ("it is a symbolic link", |folder| {
            let aside = folder.with_file_name("aside");
            fs::rename(folder, &aside).unwrap();
            symlink(aside, folder).unwrap();
        }),
        ("[foreign-segment]", |folder| {
            let name = "00000000000000000000.seg";
            fs::copy(folder.with_file_name("q-good").join(name), folder.join(name)).unwrap();
        }),
        ("it is no regular file", |folder| {
            let name = "00000000000000000000.seg";
            fs::remove_file(folder.join(name)).unwrap();
            fs::create_dir(folder.join(name)).unwrap();
        }),
    ];
    for (reason, spoil) in spoils {
        let root = good_and_bad();
        spoil(&root.path().join("q-bad"));
        let (queues, lines) = captured(|| serve(root.path()));
        assert!(lines.iter().any(|line| line.contains("q-bad")), "{lines:?}");
        for refused in [pop(&queues, b"bad").map(|_| ()), push(&queues, b"bad")] {
            let Err(QueueError::Storage(why)) = refused else { panic!("{reason}: {refused:?}") };
            assert!(why.contains("q-bad") && why.contains(reason), "{why}");
        }
        // All or nothing: what is closed cannot be dropped.
        assert!(queues.doom_all(&mut Ticket::default(), &mut Waiting::default()).is_err());
        while queues.tidy() {}
        queues.rest_idle();
        assert_eq!(pop(&queues, b"good"), Ok(Some(b"m".to_vec())), "{reason}");
        let (mut ticket, message) = (Ticket::default(), new_message(b"n"));
        queues.create(b"good", &mut ticket, |queue| queue.push(&message)).unwrap();
        queues.commit();
        assert_eq!(queues.verdict(&ticket), ReplyVerdict::Leave);
        assert!(queues.statistics(&queues.sums()).contains(&("closed_queues", 1)));
        assert!(queues.close(), "what is closed has nothing to sync");
        drop(queues);
        let directory = open_directory(root.path(), 8 * 1024, true).unwrap();
        assert!(directory.open_queues().is_err(), "a strict start is refused");
    }
}

#[test]
fn rule_17_of_a_queue_with_two_folders_both_are_closed() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 8 * 1024, false).unwrap();
    let name = [b'x'; 300];
    let log = directory.create_log(&name).unwrap();
    let folder = log.directory().to_path_buf();
    drop((log, directory));
    let mut other = folder.clone().into_os_string();
    other.push("7");
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), Path::new(&other).join(file.file_name())).unwrap();
    }
    let queues = serve(root.path());
    assert!(push(&queues, &name).is_err());
    assert!(queues.statistics(&queues.sums()).contains(&("closed_queues", 2)));
    push(&queues, b"other").unwrap();
}

/// Nothing but the headers in it tells the name of a queue whose name is long.
#[test]
fn rule_17_a_long_name_that_may_be_that_of_a_closed_queue_is_not_used_again() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 8 * 1024, false).unwrap();
    let (name, twin) = ([b'x'; 300], [&[b'x'; 299][..], b"y"].concat());
    let log = directory.create_log(&name).unwrap();
    let folder = log.directory().to_path_buf();
    drop((log, directory));
    let aside = root.path().join("aside");
    fs::rename(&folder, &aside).unwrap();
    symlink(&aside, &folder).unwrap();
    let queues = serve(root.path());
    for name in [&name[..], &twin] {
        let error = push(&queues, name).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }
    push(&queues, b"other").unwrap();
}

/// Writing to a hole in a mapping takes a block, and on a full disk there is none: that is a signal
/// and no error.
#[test]
fn rule_19_holes_in_a_restored_segment_get_blocks_before_it_is_written_to() {
    let mut bench = Bench::new(1 << 20);
    (0..20).for_each(|_| bench.push([b'x'; 1000]));
    bench.sync();
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    // As cp --sparse=always, rsync -S and backup tools do.
    let folder = root.path().join("q-q");
    let paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    for path in &paths {
        let (mut bytes, sparse) = (Vec::new(), path.with_extension("sparse"));
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        let mut file = File::create(&sparse).unwrap();
        for block in bytes.chunks(4096) {
            match block.iter().all(|byte| *byte == 0) {
                true => drop(file.seek(SeekFrom::Current(block.len() as i64)).unwrap()),
                false => file.write_all(block).unwrap(),
            }
        }
        file.set_len(bytes.len() as u64).unwrap();
        fs::rename(sparse, path).unwrap();
    }
    let holes = || {
        let has_hole = |path: &&std::path::PathBuf| {
            let metadata = fs::metadata(path).unwrap();
            metadata.blocks() * 512 < metadata.len()
        };
        paths.iter().filter(has_hole).count()
    };
    assert!(holes() > 0, "nothing is sparse here");
    let (_directory, log) = open(root.path(), 1 << 20, false).unwrap();
    assert_eq!(log.unwrap().len(), 20);
    assert_eq!(holes(), 0);
}

/// An unreadable sector was a signal that ended the daemon, for all queues. A file that is cut
/// short under its mapping does the same to whoever reads it.
#[test]
fn rule_19_bytes_that_cannot_be_read_are_an_error_of_their_queue() {
    let mut bench = Bench::new(64 * 1024);
    (0..1000).for_each(|number| bench.push(format!("{number:0100}")));
    bench.sync();
    let places = bench.places();
    let oldest = bench.folder().join("00000000000000000000.seg");
    let whole = fs::read(&oldest).unwrap();
    // Mapped, and then cut.
    assert!(bench.log.find(b"x").unwrap().is_none());
    bench.log.next(0).unwrap();
    File::options().write(true).open(&oldest).unwrap().set_len(4096).unwrap();
    let in_oldest = places.iter().rfind(|place| place.1 < 8192).unwrap();
    for _ in 0..2 {
        let error = bench.log.next(BEFORE_FIRST + in_oldest.0).unwrap_err().to_string();
        assert!(error.contains("0.seg") && error.contains("cannot be read"), "{error}");
        let error = bench.log.find(&in_oldest.2).unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
    }
    assert_eq!(bench.count("damaged_records"), 0, "it may be there again");
    let last = places.last().unwrap();
    assert_eq!(bench.log.next(BEFORE_FIRST + last.0).unwrap().unwrap().1.body, last.2);
    bench.push("still");
    bench.sync();
    // It is there again.
    fs::write(&oldest, whole).unwrap();
    bench.log.rest();
    assert_eq!(bench.bodies().len(), 1001);
}

/// Writing past the limit sends a signal that ends a process which does not ignore it.
#[test]
fn rule_19_a_limit_of_file_sizes_is_an_error_of_the_push() {
    let daemon = Daemon::start("--segment-size 1m --fsync never");
    let pid = Pid::from_raw(daemon.id() as i32);
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: Some(64 * 1024), maximum };
    prlimit(pid, Resource::Fsize, limit).unwrap();
    let mut client = daemon.redis();
    let (body, mut body_number) = ("x".repeat(95), 0);
    let error = (0..1000).find_map(|_| {
        body_number += 1;
        let body = format!("{body_number:05}{body}");
        client.send(request(&[b"SADD", b"q", body.as_bytes()]));
        Some(client.read_line()).filter(|line| line.starts_with('-'))
    });
    let error = error.expect("every push fits");
    assert!(error.contains("the disk is full: the limit of file sizes"), "{error}");
    assert!(error.contains("q-q/"), "{error}");
    client.ask("SPOP q\r\n", format!("$100\r\n00001{body}\r\n"));
    // As on a full disk, there is room to remove all others.
    let bodies: Vec<_> = (2..body_number).map(|number| format!("{number:05}{body}")).collect();
    let mut removal = vec![&b"SREM"[..], b"q"];
    removal.extend(bodies.iter().map(|body| body.as_bytes()));
    client.ask(request(&removal), format!(":{}\r\n", bodies.len()));
}

/// The last segment of 64 MiB, and the one ahead of it, stayed until the queue had been idle for up
/// to 20 seconds.
#[test]
fn rule_10_an_empty_queue_gives_its_last_segment_back_soon() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 4 << 20, false).unwrap();
    let limits = Limits { max_queues: 10, max_queue_len: u64::MAX };
    let queues =
        Queues::open(Box::new(DiskBacking::new(directory)), limits, Policy::Never).unwrap();
    let folder = root.path().join("q-q");
    let round = || while queues.tidy() {};
    for (size, is_large) in [(100, false), (3 << 20, true)] {
        let body = vec![b'x'; size];
        let push = |queue: &mut Queue| queue.push(&new_message(&body));
        queues.create(b"q", &mut Ticket::default(), push).unwrap();
        round();
        round();
        assert!(folder.exists(), "it is not empty");
        assert_eq!(pop(&queues, b"q"), Ok(Some(body.clone())));
        round();
        round();
        assert_eq!(folder.exists(), !is_large);
        assert_eq!(pop(&queues, b"q"), Ok(None));
    }
}

/// A busy queue kept a mapping for each of its segments, and a process may have only so many.
#[test]
fn rule_07_few_segments_of_a_busy_queue_are_mapped() {
    let mut bench = Bench::new(8 * 1024);
    (0..3000).for_each(|number| bench.push(format!("{number:0300}")));
    let segments = bench.log.segments().count();
    assert!(segments > 100, "{segments}");
    let folder = bench.folder().to_string_lossy().into_owned();
    let mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(&folder)).count()
    };
    let mut most = 0;
    for number in (0..3000).step_by(10) {
        assert!(bench.log.next(number).unwrap().is_some());
        most = most.max(mapped());
        assert!(bench.remove(format!("{:0300}", 2999 - number)));
        most = most.max(mapped());
    }
    assert!(most <= 40, "{most} of {segments}");
}

/// A file that was never finished, by somebody else or by rot, is not taken for room: what is in it
/// stays.
#[test]
fn rule_18_what_is_no_segment_closes_its_queue() {
    let mut bench = Bench::new(8 * 1024);
    bench.push("m");
    bench.sync();
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let way = root.path().join("q-q/00000000000000008192.seg");
    fs::write(&way, "precious".repeat(1000)).unwrap();
    let error = DataDirectory::open(root.path(), 8 * 1024, false).unwrap().open_logs();
    assert!(matches!(error, Err(StorageError::Refused(_))), "{error:?}");
    assert_eq!(fs::read(&way).unwrap(), "precious".repeat(1000).as_bytes());
}

/// Which queues lost something when the directory failed, only their own lines say.
#[test]
fn rule_17_each_queue_with_something_to_sync_is_named_when_the_directory_fails() {
    let root = TempDir::new().unwrap();
    let directory = open_directory(root.path(), 8 * 1024, false).unwrap();
    let mut logs =
        ["one", "two", "idle"].map(|name| directory.create_log(name.as_bytes()).unwrap());
    for log in &mut logs {
        log.push(&new_message(b"m"), 1).unwrap();
        log.sync_now().unwrap();
        let (work, point) = log.begin_sync().unwrap();
        log.end_sync(point, &work());
    }
    for log in &mut logs[..2] {
        log.push(&new_message(b"n"), 1).unwrap();
    }
    let aside = TempDir::new().unwrap();
    fs::rename(root.path(), aside.path().join("data")).unwrap();
    let ((), lines) = captured(|| {
        for _ in 0..2 {
            directory.watch();
            for log in logs.iter_mut().filter(|log| log.is_dirty()) {
                let (work, point) = log.begin_sync().unwrap();
                let outcome = work();
                assert!(outcome.is_err());
                log.end_sync(point, &outcome);
            }
        }
    });
    let said = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("all queues are closed for writing until restart"), 1, "{lines:?}");
    for (queue, count) in [("one", 1), ("two", 1), ("idle", 0)] {
        let line = format!("q-{queue} is closed for writing until restart");
        assert_eq!(said(&line), count, "{queue}: {lines:?}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
}
