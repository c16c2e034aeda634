//! The line that answers a command.

use std::borrow::Cow;
use std::fmt::Display;

/// One line of reply without its CRLF.
pub(super) type ReplyLine = Cow<'static, str>;

/// The line for what the server could not do.
pub(super) fn server_error(error: impl Display) -> ReplyLine {
    format!("SERVER_ERROR {error}").into()
}
