//! `repair`: shows what it would do, does it with `--yes` only, and after a copy only.

use super::bench::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A data directory in a directory of its own, where copies may lie beside it; queue `jobs` has
/// two damaged places.
fn damaged_data() -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    let data = open(&path);
    fill(&data, b"jobs", 300).rest();
    fill(&data, b"other", 3).rest();
    drop(data);
    change(&path.join("q-jobs").join(FIRST), |bytes| bytes[RECORDS + RECORD + BODY] ^= 1);
    let second = segments(&path.join("q-jobs"))[1].clone();
    change(&second, |bytes| bytes[0] ^= 1);
    (root, path)
}

#[test]
fn without_damage_it_says_so_and_writes_nothing() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("data");
    drop(fill(&open(&path), b"jobs", 3));
    for arguments in [&["repair"][..], &["repair", "--yes"]] {
        let before = files(root.path());
        let output = write_with(&path, arguments, b"");
        let (printed, said) = texts(&output);
        assert_eq!((said.as_str(), output.status.code()), ("", Some(0)));
        assert_eq!(printed, "1 queue, 8.0 KiB: no damage\nnothing to repair\n");
        assert_eq!(files(root.path()), before);
    }
}

#[test]
fn without_yes_it_shows_what_it_would_do_and_writes_nothing() {
    let (root, path) = damaged_data();
    let before = image(root.path());
    let (printed, said) = damaged(&path, &["repair"]);
    assert_eq!(said, "");
    assert!(printed.contains(" [rotten-record]\n    damage: it is passed over\n"), "{printed}");
    assert!(printed.contains(" [rotten-header]\n    damage: it is read by the"), "{printed}");
    assert!(printed.contains("\n2 queues, 48.0 KiB: 2 damaged places\n"), "{printed}");
    assert!(printed.ends_with("nothing was changed: repair --yes does it\n"), "{printed}");
    assert_eq!(image(root.path()), before);
}

#[test]
fn with_yes_it_copies_recovers_and_leaves_no_damage() {
    let (root, path) = damaged_data();
    let before = files(&path);
    let output = write_with(&path, &["repair", "--yes"], b"");
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}{said}");
    let copy = root.path().join("data.before-repair-1");
    let copied = format!("a copy of the directory is in {}\n", copy.display());
    assert!(printed.contains(&copied), "{printed}");
    assert_eq!(files(&copy), before);
    assert!(printed.contains("\nrecovered: 302 messages in 2 queues\n"), "{printed}");
    assert!(printed.lines().last().unwrap().contains(": no damage"), "{printed}");
    let expected: Vec<String> =
        (0..300).filter(|n| *n != 1).map(|n| format!("message {n}")).collect();
    assert_eq!(values(&path, "jobs"), expected);
    let numbers = healthy(&path, &["messages", "jobs", "--count", "2"]);
    assert!(numbers.contains("\n2305843009213693954 "), "numbers are kept: {numbers}");
    // What recovery has set aside is a note.
    let verified = healthy(&path, &["verify"]);
    assert!(verified.contains(": no damage, "), "{verified}");
    // A strict start takes it, and what is pushed then is behind.
    let mut logs = open(&path).open_logs().unwrap();
    let log = logs.iter_mut().find(|log| log.name() == b"jobs").unwrap();
    push(log, b"behind", 0);
    sync(log);
    drop(logs);
    assert_eq!(values(&path, "jobs").last().unwrap(), "behind");
}

/// Root repairs for a service that runs as somebody else.
#[test]
fn a_copy_and_what_is_repaired_belong_to_whom_the_directory_belonged_to() {
    let (root, path) = damaged_data();
    let all = |path: &Path| {
        let folders = [path.to_path_buf(), path.join("q-jobs")];
        let inside = |folder: &PathBuf| fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        folders.iter().flat_map(inside).chain([path.to_path_buf()]).collect::<Vec<_>>()
    };
    let owner = Some(65_534);
    if all(&path).iter().any(|path| chown(path, owner, owner).is_err()) {
        println!("only root gives files away");
        return;
    }
    let output = write_with(&path, &["repair", "--yes"], b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for path in all(&path).into_iter().chain(all(&root.path().join("data.before-repair-1"))) {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (65_534, 65_534), "{}", path.display());
    }
}

#[test]
fn a_second_repair_makes_a_second_copy() {
    let (root, path) = damaged_data();
    fs::create_dir(root.path().join("data.before-repair-1")).unwrap();
    let output = write_with(&path, &["repair", "--yes"], b"");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(files(&root.path().join("data.before-repair-1")).len(), 0);
    let folder = root.path().join("data.before-repair-2/q-jobs");
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn without_room_for_a_copy_nothing_is_changed() {
    let (root, path) = damaged_data();
    // Not a block of these is there, and a copy would have them all.
    for number in 0..64 {
        let file = fs::File::create(path.join(format!("huge-{number}"))).unwrap();
        file.set_len(1 << 43).unwrap();
    }
    let jobs = files(&path.join("q-jobs"));
    let output = write_with(&path, &["repair", "--yes"], b"");
    let (_, said) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why = format!("no room for a copy: it takes 512.0 TiB, {} has ", root.path().display());
    assert!(said.contains(&why) && said.contains("; nothing was changed"), "{said}");
    assert_eq!(files(&path.join("q-jobs")), jobs);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "a copy was begun");
}

#[test]
fn what_no_start_opens_is_not_repaired() {
    let (root, path) = damaged_data();
    fs::copy(path.join("q-other").join(FIRST), path.join("q-jobs").join(FIRST)).unwrap();
    let before = files(root.path());
    let output = write_with(&path, &["repair", "--yes"], b"");
    let (printed, said) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains(" [foreign-segment]\n    refusal: "), "{printed}");
    assert!(said.contains("nothing was changed") && said.lines().count() == 1, "{said}");
    assert_eq!(files(root.path()), before);
}

#[test]
fn what_is_not_there_is_not_made() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("nowhere");
    for arguments in [&["repair"][..], &["repair", "--yes"]] {
        let output = command(&path, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(!path.exists());
    }
}

/// Whatever is damaged, a repair delivers what could be read before it, with the same numbers, and
/// leaves no damage, or it changes nothing.
#[test]
fn a_repair_keeps_everything_that_could_be_read() {
    let mut random = Random::seeded();
    let sound = rich_files();
    let (mut repaired, mut refused) = (0, 0);
    for round in 0..15 {
        let mut damaged = sound.clone();
        for _ in 0..1 + random.below(3) {
            damage(&mut damaged, &mut random);
        }
        let root = directory_with(&damaged);
        let path = root.path().join("data");
        let before = dump(&path, &["export"]).stdout;
        let verdict = dump(&path, &["verify"]);
        let output = write_with(&path, &["repair", "--yes"], b"");
        let (printed, said) = texts(&output);
        if printed.contains(" refusal: ") {
            assert_eq!(output.status.code(), Some(1), "round {round}: {printed}{said}");
            assert_eq!(files(&path), damaged, "round {round}: {printed}");
            refused += 1;
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "round {round}: {printed}{said}");
        if verdict.status.code() == Some(0) {
            assert_eq!(files(&path), damaged, "round {round}: {printed}");
            continue;
        }
        assert_eq!(files(&root.path().join("data.before-repair-1")), damaged);
        repaired += 1;
        healthy(&path, &["verify"]);
        let after = healthy(&path, &["export"]);
        assert_eq!(after, String::from_utf8(before).unwrap(), "round {round}: {printed}{said}");
        open(&path).open_logs().unwrap();
    }
    assert!(repaired > 2 && refused < 10, "{repaired} repaired, {refused} refused");
}
