//! Log lines, kept by the thread that wrote them.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// What `work` answers, and the log lines that this thread wrote meanwhile.
pub fn captured<R>(work: impl FnOnce() -> R) -> (R, Vec<String>) {
    // Another test of this process may have been first.
    let _set = log::set_logger(&Capture);
    log::set_max_level(log::LevelFilter::Debug);
    LINES.take();
    let result = work();
    (result, LINES.take())
}
