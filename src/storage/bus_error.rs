//! Reads and writes of mappings that the system cannot carry out: it sends SIGBUS, which would end
//! the process without a word of which file it was.
//!
//! 1. Where a mapping is only read, the page is replaced by zeros and the mapping remembers that:
//!    a reader looks there before it believes what it has found. So an unreadable sector, a
//!    file that somebody has cut short, or a disk that has gone away costs the queue whose file it
//!    is, with an error (rule 19). That also holds for bytes that were read before and have to be
//!    fetched again, which no earlier look with a system call could promise.
//! 2. Where a mapping is written to, nothing takes the place of the page: what is written there
//!    would be lost. The file is named on standard error, and the process ends by the signal.
//!
//! The handler may run in the middle of anything. So it allocates nothing, takes no lock and reads
//! only a table of atomics that is never freed.

use libc::{c_int, c_void, siginfo_t};
use rustix::param::page_size;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// The most mappings that are known to the handler: as many as the system allows a process.
const ENTRIES: usize = 65_536;

/// A mapping, as the handler needs to know it.
struct Entry {
    /// Its first address; 0 if the entry is free.
    start: AtomicUsize,
    length: AtomicUsize,
    is_writable: AtomicBool,
    /// One more than the offset of the last page that could not be read; 0 if all could.
    fault: AtomicUsize,
    path: AtomicPtr<u8>,
    path_length: AtomicUsize,
}

impl Entry {
    const fn free() -> Entry {
        Entry {
            start: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            is_writable: AtomicBool::new(false),
            fault: AtomicUsize::new(0),
            path: AtomicPtr::new(ptr::null_mut()),
            path_length: AtomicUsize::new(0),
        }
    }

    /// The offset of `address` in the mapping. Returns `None` if it is elsewhere.
    fn offset_of(&self, address: usize) -> Option<usize> {
        let start = self.start.load(Ordering::Acquire);
        let offset = address.checked_sub(start).filter(|_| start != 0)?;
        (offset < self.length.load(Ordering::Relaxed)).then_some(offset)
    }
}

static TABLE: [Entry; ENTRIES] = [const { Entry::free() }; ENTRIES];
/// Entries from here on have never been used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Entries before that which are free.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Entries that are not free.
static WATCHED: AtomicUsize = AtomicUsize::new(0);
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
static INSTALLED: Once = Once::new();

/// A mapping that the handler knows as long as this lives. It must be dropped before the mapping.
pub struct WatchedMapping {
    index: usize,
    /// What the entry points to.
    _path: Box<[u8]>,
}

impl WatchedMapping {
    /// Watches the `length` bytes at `start`, a mapping of the file at `path`. Returns `None` if
    /// there are too many.
    pub fn new(
        path: &Path,
        start: *const u8,
        length: usize,
        is_writable: bool,
    ) -> Option<WatchedMapping> {
        INSTALLED.call_once(install);
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let index = free.pop().or_else(|| {
            let index = USED.load(Ordering::Relaxed);
            (index < ENTRIES).then(|| {
                USED.store(index + 1, Ordering::Release);
                index
            })
        })?;
        let path: Box<[u8]> = path.as_os_str().as_bytes().into();
        let entry = &TABLE[index];
        entry.length.store(length, Ordering::Relaxed);
        entry.is_writable.store(is_writable, Ordering::Relaxed);
        entry.fault.store(0, Ordering::Relaxed);
        entry.path.store(path.as_ptr().cast_mut(), Ordering::Relaxed);
        entry.path_length.store(path.len(), Ordering::Relaxed);
        entry.start.store(start.addr(), Ordering::Release);
        WATCHED.fetch_add(1, Ordering::Relaxed);
        Some(WatchedMapping { index, _path: path })
    }

    /// The offset of a page that could not be read. Returns `None` if all could so far.
    pub fn fault(&self) -> Option<u64> {
        TABLE[self.index].fault.load(Ordering::Acquire).checked_sub(1).map(|offset| offset as u64)
    }
}

impl Drop for WatchedMapping {
    fn drop(&mut self) {
        TABLE[self.index].start.store(0, Ordering::Release);
        WATCHED.fetch_sub(1, Ordering::Relaxed);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
    }
}

impl fmt::Debug for WatchedMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedMapping").field("fault", &self.fault()).finish()
    }
}

/// How many mappings are watched.
pub fn watched_count() -> usize {
    WATCHED.load(Ordering::Relaxed)
}

fn install() {
    PAGE_SIZE.store(page_size(), Ordering::Relaxed);
    // SAFETY: an action of zeros is a valid one, and the handler keeps to what a handler may do, as
    // its own comments argue. It runs on the alternate stack where a thread has one, and needs
    // little of any. Rust's own handler of this signal is for stack overflows, which Linux signals
    // by SIGSEGV.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut());
    }
}

extern "C" fn on_bus_error(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid `info`, and for this signal it has
    // an address; one that somebody has sent with `kill` has another field there, which is only
    // compared.
    let address = unsafe { (*info).si_addr() }.addr();
    let used = USED.load(Ordering::Acquire).min(ENTRIES);
    let found = TABLE[..used].iter().find_map(|entry| Some((entry, entry.offset_of(address)?)));
    if let Some((entry, offset)) = found {
        if !entry.is_writable.load(Ordering::Relaxed) && replace_page(address) {
            entry.fault.store(offset / page() * page() + 1, Ordering::Release);
            return;
        }
        name_file(entry, offset);
    }
    // SAFETY: as in `install`. When this returns, the access is tried again, and the signal ends
    // the process.
    unsafe {
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

fn page() -> usize {
    PAGE_SIZE.load(Ordering::Relaxed).max(1)
}

/// Puts a page of zeros at `address`; false if that cannot be done.
fn replace_page(address: usize) -> bool {
    let start = address / page() * page();
    // SAFETY: the page lies in a mapping that is watched: it is not unmapped before its entry is
    // cleared, and the thread that was interrupted is reading it. So it belongs to that mapping,
    // and is unmapped with it. Nobody writes there. A thread that has read something from this page
    // before the kernel took it away reads zeros now, which is what `WatchedMapping::fault` is for.
    // `mmap` is a bare system call, and `errno` is put back.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let target = ptr::with_exposed_provenance_mut(start);
        let mapped = libc::mmap(target, page(), libc::PROT_READ, flags, -1, 0);
        *errno = before;
        mapped != libc::MAP_FAILED
    }
}

/// Says on standard error which file it is.
fn name_file(entry: &Entry, offset: usize) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = offset;
    while start == digits.len() || rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    say(b"bus error: ");
    let (path, length) =
        (entry.path.load(Ordering::Relaxed), entry.path_length.load(Ordering::Relaxed));
    // SAFETY: the entry's `WatchedMapping` owns these bytes. It lives, because the mapping that it
    // must not outlive is being written to.
    say(unsafe { std::slice::from_raw_parts(path, length) });
    say(b": offset ");
    say(&digits[start..]);
    say(b" cannot be written: is the disk full, or has it gone away?\n");
}

fn say(bytes: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice. What is not written nobody can know.
    unsafe {
        libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::mapping::Mapping;
    use rustix::param::page_size;
    use std::fs::OpenOptions;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::Arc;
    use std::{env, slice};

    /// A mapping of two pages, of whose file only the first is left.
    fn cut_short(is_writable: bool) -> (tempfile::TempDir, Mapping) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 2 * page_size()]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mapping =
            Mapping::of(&file, &path, 2 * page_size(), is_writable, &Arc::default()).unwrap();
        file.set_len(page_size() as u64).unwrap();
        (directory, mapping)
    }

    #[test]
    fn what_cannot_be_read_is_zero_and_known() {
        let (_directory, mapping) = cut_short(false);
        assert_eq!(mapping.fault(), None);
        // SAFETY: the mapping lives, and nobody writes to it.
        let bytes = unsafe { slice::from_raw_parts(mapping.as_ptr(), mapping.len()) };
        assert_eq!(bytes[0], 7);
        assert_eq!(mapping.fault(), None);
        assert_eq!(bytes[page_size() + 5], 0);
        assert_eq!(mapping.fault(), Some(page_size() as u64));
        assert_eq!(bytes[0], 7);
        let (_directory, other) = cut_short(false);
        assert_eq!(other.fault(), None, "it is another's");
    }

    /// The test starts itself: the signal ends the process.
    #[test]
    fn what_cannot_be_written_is_named_and_ends_the_process() {
        const CHILD: &str = "MQ_TEST_BUS_ERROR";
        if env::var_os(CHILD).is_some() {
            let (_directory, mapping) = cut_short(true);
            // SAFETY: the mapping lives, is writable, and nobody else uses it.
            let bytes = unsafe { slice::from_raw_parts_mut(mapping.as_mut_ptr(), mapping.len()) };
            bytes[page_size()] = std::hint::black_box(1);
            return;
        }
        let name = concat!(
            "storage::bus_error::tests::",
            "what_cannot_be_written_is_named_and_ends_the_process"
        );
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args([name, "--exact"]).env(CHILD, "1").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGBUS));
        let said = String::from_utf8_lossy(&output.stderr);
        let offset = format!("/file: offset {} cannot be written", page_size());
        assert!(said.contains("bus error: /") && said.contains(&offset), "{said}");
    }
}
