//! Panics as log lines, without the paths of the machine that the program was built on.

use log::error;
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, Location, PanicHookInfo};
use std::thread;

thread_local! {
    /// Set where a panic is an answer, and no fault.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Logs each panic from now on, as one line.
pub(super) fn log_from_now_on() {
    panic::set_hook(Box::new(|panic| {
        if !IS_EXPECTED.get() {
            error!("{}", line(panic));
        }
    }));
}

/// Runs `work`, in which a library may panic where it should answer an error. Such a panic is not
/// logged. Returns its message.
pub fn expecting_panic<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    let was_expected = IS_EXPECTED.replace(true);
    // What `work` leaves behind is seen by nobody: it answers nothing.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_EXPECTED.set(was_expected);
    done.map_err(|payload| message(&*payload).to_owned())
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(|| "an unknown place".into(), place);
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    format!("thread {name} panicked at {place}: {}", message(panic.payload()))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(|text| &text[..])).unwrap_or("no message")
}

fn place(location: &Location<'_>) -> String {
    format!("{}:{}", in_crate(location.file()), location.line())
}

/// The part of a source file's path that does not depend on where it was built. Paths of this crate
/// are relative to it; those of others, and of the standard library, begin at the build machine's
/// root, and keep their last `src` and the folder above, which names the crate.
fn in_crate(path: &str) -> &str {
    if !path.starts_with('/') {
        return path;
    }
    let (above, inside) = match path.rfind("/src/") {
        Some(src) => path.split_at(src),
        None => (path, ""),
    };
    let crate_name = above.rfind('/').map_or(0, |slash| slash + 1);
    debug_assert!(path.ends_with(inside));
    &path[crate_name..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_crate_and_file_and_nothing_of_the_machine() {
        let paths = [
            ("src/queue/slot.rs", "src/queue/slot.rs"),
            ("/home/builder/.registry/threadpool-1.8.1/src/lib.rs", "threadpool-1.8.1/src/lib.rs"),
            ("/rustc/0123abcd/library/core/src/num/mod.rs", "core/src/num/mod.rs"),
            ("/home/src/x/library/alloc/src/vec.rs", "alloc/src/vec.rs"),
            ("/home/builder/build.rs", "build.rs"),
            ("/", ""),
        ];
        for (path, expected) in paths {
            assert_eq!(in_crate(path), expected);
        }
    }

    #[test]
    fn an_expected_panic_is_an_error_with_its_message() {
        assert_eq!(expecting_panic(|| 7), Ok(7));
        let number = 3;
        assert_eq!(expecting_panic(|| panic!("on purpose")), Err::<(), _>("on purpose".into()));
        assert_eq!(expecting_panic(|| panic!("no {number}")), Err::<(), _>("no 3".into()));
        assert!(!IS_EXPECTED.get());
    }
}
