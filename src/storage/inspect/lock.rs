//! Whether somebody holds a file's lock, without trying it: for the moment of a try, a daemon that
//! starts would find it held.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kernel's list of all locks that this process may see.
const LOCKS: &str = "/proc/locks";

/// True when the list has an exclusive `flock` of the file at `path`. False too where there is no
/// such list, or where the holder lives in a container that this process cannot look into.
pub fn is_held(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    fs::read_to_string(LOCKS).is_ok_and(|locks| has_lock(&locks, metadata.ino()))
}

/// Looks through lines like `1: FLOCK  ADVISORY  WRITE 6430 fe:00:10011663 0 EOF`. The device is
/// not compared: where a file system has several, the kernel writes another one here than files
/// have. So a file of the same number elsewhere may be taken for this one.
fn has_lock(locks: &str, inode: u64) -> bool {
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_exclusive = words.by_ref().take(3).eq(["FLOCK", "ADVISORY", "WRITE"]);
        let file = words.nth(1).and_then(|file| file.rsplit(':').next());
        is_exclusive && file.and_then(|inode| inode.parse().ok()) == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exclusive_flock_of_the_file_counts() {
        let list = "1: POSIX  ADVISORY  WRITE 5 fe:00:11 0 EOF\n\
                    2: FLOCK  ADVISORY  READ 5 fe:00:12 0 EOF\n\
                    3: FLOCK  ADVISORY  WRITE 5 fe:00:13 0 EOF\n\
                    3: -> FLOCK  ADVISORY  WRITE 5 fe:00:14 0 EOF\n\
                    4: FLOCK\n";
        let held: Vec<u64> = (0..20).filter(|inode| has_lock(list, *inode)).collect();
        assert_eq!(held, [13]);
    }
}
