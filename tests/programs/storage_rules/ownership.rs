//! Rule 18: the directory is the daemon's, and nothing else is.

use super::bench::*;
use mq::storage::{DataDirectory, StorageError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use tempfile::TempDir;

/// Messages of 100 bytes that do not fit into the first segment of a queue.
const PAST_THE_FIRST: usize = 200;

/// What becomes of the directory, and where it may go.
type MoveDirectory = fn(&Path, &Path);
/// What becomes of a file.
type ChangeFile = fn(&Path);

fn is_locked(root: &Path) -> bool {
    matches!(DataDirectory::open(root, 1 << 20, false), Err(StorageError::Locked { .. }))
}

/// A push is answered after a sync of it.
fn answer(bench: &mut Bench) -> Result<(), String> {
    bench.log.push(&new_message(b"m"), 1).map_err(|error| error.to_string())?;
    let (work, point) = bench.log.begin_sync().expect("something to sync");
    let outcome = work();
    bench.log.end_sync(point, &outcome);
    outcome.map_err(|error| error.to_string())
}

/// A cleaner of old files took LOCK away, and a second daemon wrote over the messages of the first.
#[test]
fn rule_18_the_lock_holds_without_its_file_and_wherever_the_directory_goes() {
    let bench = Bench::new(1 << 20);
    assert!(is_locked(bench.root.path()));
    fs::remove_file(bench.root.path().join("LOCK")).unwrap();
    assert!(is_locked(bench.root.path()));
    let aside = TempDir::new().unwrap();
    let moved = aside.path().join("moved");
    fs::rename(bench.root.path(), &moved).unwrap();
    assert!(is_locked(&moved));
    fs::rename(&moved, bench.root.path()).unwrap();
    let Bench { log, directory, root, .. } = bench;
    drop(directory);
    assert!(open_directory(root.path(), 1 << 20, false).is_ok());
    drop(log);
}

#[test]
fn rule_18_nothing_is_answered_once_the_directory_is_elsewhere() {
    let changes: [(&str, MoveDirectory); 4] = [
        ("moved", |root, aside| fs::rename(root, aside).unwrap()),
        ("removed", |root, _| fs::remove_dir_all(root).unwrap()),
        ("replaced", |root, aside| {
            fs::rename(root, aside).unwrap();
            fs::create_dir_all(root.join("q-q")).unwrap();
            let name = "00000000000000000000.seg";
            fs::copy(aside.join("q-q").join(name), root.join("q-q").join(name)).unwrap();
        }),
        ("behind another link", |root, aside| {
            fs::rename(root, aside).unwrap();
            symlink("nowhere", root).unwrap();
        }),
    ];
    for (how, change) in changes {
        let mut bench = Bench::new(1 << 20);
        let aside = TempDir::new().unwrap();
        answer(&mut bench).unwrap();
        change(bench.root.path(), &aside.path().join("aside"));
        let error = answer(&mut bench).unwrap_err();
        assert!(error.contains("0.seg"), "{how}: {error}");
        let error = answer(&mut bench).unwrap_err();
        assert!(error.contains("closed for writing until restart"), "{how}: {error}");
        // Other queues need not find out for themselves.
        assert!(bench.directory.check_writable().is_ok());
        bench.directory.watch();
        assert!(bench.directory.create_log(b"other").is_err(), "{how}");
    }
}

#[test]
fn rule_18_nothing_is_answered_once_the_file_is_elsewhere() {
    let changes: [(&str, ChangeFile); 3] = [
        ("removed", |file| fs::remove_file(file).unwrap()),
        ("copied back", |file| {
            let bytes = fs::read(file).unwrap();
            fs::remove_file(file).unwrap();
            fs::write(file, bytes).unwrap();
        }),
        ("linked", |file| {
            let other = file.with_extension("other");
            fs::rename(file, &other).unwrap();
            symlink(other, file).unwrap();
        }),
    ];
    for (how, change) in changes {
        let mut bench = Bench::new(1 << 20);
        answer(&mut bench).unwrap();
        change(&bench.folder().join("00000000000000000000.seg"));
        assert!(answer(&mut bench).is_err(), "{how}");
        // Where nobody syncs, housekeeping looks.
        let mut bench = Bench::new(1 << 20);
        bench.push("m");
        change(&bench.folder().join("00000000000000000000.seg"));
        bench.log.watch();
        assert!(bench.log.check_writable().is_err(), "{how}");
    }
}

#[test]
fn rule_18_only_a_data_directory_is_taken_for_one() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("passwd"), "root").unwrap();
    let refused = DataDirectory::open(root.path(), 1 << 20, false).unwrap_err();
    assert!(matches!(refused, StorageError::NoDataDirectory { .. }), "{refused}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "something was made");
    // With the name of a lock that other programs have, too.
    fs::write(root.path().join("LOCK"), "").unwrap();
    assert!(DataDirectory::open(root.path(), 1 << 20, false).is_err());
}

#[test]
fn rule_18_a_new_directory_and_one_of_an_older_version_are_marked() {
    let bench = Bench::new(1 << 20);
    let marker = bench.root.path().join("MQD_DATA");
    assert!(marker.is_file());
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    // An older version has made it, and somebody has put a file beside.
    fs::remove_file(&marker).unwrap();
    fs::write(root.path().join("notes.txt"), "text").unwrap();
    let (directory, log) = open(root.path(), 1 << 20, true).unwrap();
    assert!(log.is_some() && marker.is_file());
    drop((log, directory));
    // From then on the marker is enough.
    fs::remove_dir_all(root.path().join("q-q")).unwrap();
    assert!(open_directory(root.path(), 1 << 20, true).is_ok());
}

#[test]
fn rule_18_a_file_in_the_way_of_a_segment_stays() {
    let mut bench = Bench::new(8 * 1024);
    let way = bench.folder().join("00000000000000008192.seg");
    fs::write(&way, "precious").unwrap();
    let pushed: Result<(), _> = (0..PAST_THE_FIRST)
        .try_for_each(|_| bench.log.push(&new_message(&[b'x'; 100]), 1).map(drop));
    let error = pushed.unwrap_err().to_string();
    assert!(error.contains("00000000000000008192.seg"), "{error}");
    assert_eq!(fs::read(&way).unwrap(), b"precious");
    let count = bench.log.len();
    fs::remove_file(way).unwrap();
    bench.push([b'x'; 100]);
    assert_eq!(bench.bodies().len() as u64, count + 1);
}

#[test]
fn rule_18_no_link_is_written_through_and_no_pipe_waited_for() {
    for is_link in [true, false] {
        let bench = Bench::new(1 << 20);
        let Bench { log, directory, root, .. } = bench;
        drop((log, directory));
        let file = root.path().join("q-q/00000000000000000000.seg");
        let aside = root.path().join("q-q/aside");
        fs::rename(&file, &aside).unwrap();
        let before = fs::read(&aside).unwrap();
        match is_link {
            true => symlink(&aside, &file).unwrap(),
            false => mknodat(CWD, &file, FileType::Fifo, Mode::from(0o600), 0).unwrap(),
        }
        let error = open(root.path(), 1 << 20, false).unwrap_err().to_string();
        assert!(error.contains("0.seg"), "{error}");
        assert_eq!(fs::read(&aside).unwrap(), before);
    }
}

/// The folder of a queue was moved to another disk, with a link in its place, and the queue was
/// gone without a word.
#[test]
fn rule_18_a_link_in_the_place_of_a_queue_is_named() {
    let bench = Bench::new(1 << 20);
    let aside = TempDir::new().unwrap();
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let (folder, elsewhere) = (root.path().join("q-q"), aside.path().join("q-q"));
    fs::rename(&folder, &elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    let error = open(root.path(), 1 << 20, false).unwrap_err().to_string();
    assert!(error.contains("q-q: it is a symbolic link"), "{error}");
}

#[test]
fn rule_18_files_of_others_in_a_queues_folder_stay() {
    // Segments that somebody has set aside, for a start without them.
    let mut bench = Bench::new(1 << 20);
    bench.push("m");
    let Bench { log, directory, root, .. } = bench;
    drop((log, directory));
    let (folder, name) = (root.path().join("q-q"), "00000000000000000000.seg");
    fs::create_dir(folder.join("aside")).unwrap();
    fs::rename(folder.join(name), folder.join("aside").join(name)).unwrap();
    let (directory, log) = open(root.path(), 1 << 20, false).unwrap();
    assert!(log.is_none());
    // A queue is made and dropped beside them.
    let mut log = directory.create_log(b"q").unwrap();
    directory.drop_log(&mut log).unwrap();
    drop((log, directory));
    let mut kept = Vec::new();
    for entry in fs::read_dir(root.path()).unwrap().map(Result::unwrap) {
        let aside = entry.path().join("aside").join(name);
        kept.extend(aside.is_file().then_some(aside));
    }
    assert_eq!(kept.len(), 1, "{kept:?}");
}

/// The first drop failed beside a file of that name, and an empty folder was replaced.
#[test]
fn rule_18_what_has_the_name_of_a_dropped_queue_stays() {
    let mut bench = Bench::new(1 << 20);
    bench.push("m");
    let (file, folder) = (bench.root.path().join("dropped-1"), bench.root.path().join("dropped-2"));
    fs::write(&file, "precious").unwrap();
    fs::create_dir(&folder).unwrap();
    bench.directory.drop_log(&mut bench.log).unwrap();
    assert!(!bench.folder().exists());
    assert_eq!(fs::read(file).unwrap(), b"precious");
    assert!(fs::read_dir(folder).unwrap().next().is_none(), "it was replaced");
}

/// It counted as a failed sync: the pop was lost, and the queue closed.
#[test]
fn rule_18_what_is_dead_and_cannot_be_unlinked_only_takes_room() {
    let mut bench = Bench::new(8 * 1024);
    (0..PAST_THE_FIRST).for_each(|_| bench.push([b'x'; 100]));
    bench.sync();
    let oldest = bench.folder().join("00000000000000000000.seg");
    while bench.log.segments().next().unwrap().live_count > 1 {
        bench.pop();
    }
    // A folder cannot be unlinked, whoever tries it.
    fs::remove_file(&oldest).unwrap();
    fs::create_dir(&oldest).unwrap();
    bench.pop();
    let ((), lines) = captured(|| bench.sync());
    assert!(lines.iter().any(|line| line.contains("0.seg")), "{lines:?}");
    assert!(bench.log.segments().all(|segment| segment.base > 0));
    bench.push("later");
    bench.sync();
    assert_eq!(bench.count("failed_syncs"), 0);
}

#[test]
fn rule_18_what_is_made_is_for_its_owner_alone() {
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("data");
    let directory = open_directory(&root, 1 << 20, false).unwrap();
    directory.create_log(b"q").unwrap().push(&new_message(b"m"), 1).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [root.clone(), root.join("q-q")] {
        assert_eq!(mode(&folder), 0o700, "{folder:?}");
    }
    for file in ["LOCK", "MQD_DATA", "q-q/00000000000000000000.seg"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
}

/// What `mq-dump` made as root, the service could not open any more.
#[test]
fn rule_18_what_root_makes_belongs_to_the_owner_of_the_directory() {
    let owner = Some(65_534);
    let parent = TempDir::new().unwrap();
    let root = parent.path().join("data");
    fs::create_dir(&root).unwrap();
    if chown(&root, owner, owner).is_err() {
        println!("only root gives files away");
        return;
    }
    let directory = open_directory(&root, 8 * 1024, false).unwrap();
    let mut log = directory.create_log(b"q").unwrap();
    for _ in 0..PAST_THE_FIRST {
        log.push(&new_message(&[b'x'; 100]), 1).unwrap();
    }
    log.sync_now().unwrap();
    let folder = root.join("q-q");
    drop((log, directory));
    // And a copy of a damaged segment.
    let mut bytes = fs::read(folder.join("00000000000000000000.seg")).unwrap();
    bytes[30] ^= 1;
    fs::write(folder.join("00000000000000000000.seg"), bytes).unwrap();
    open(&root, 8 * 1024, false).unwrap();
    let mut folders = vec![root];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_534), "{}", path.display());
            count += 1;
            folders.extend(metadata.is_dir().then_some(path));
        }
    }
    assert!(count > 6, "only {count}");
}
