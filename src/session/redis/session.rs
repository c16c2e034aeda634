//! The session: cuts requests out of a client's bytes and hands them on, one after the other.
//!
//! It promises that the replies do not depend on how the input was cut into pieces, and that it
//! stops for its caller to send them once they are `OUTPUT_PIECE` long. It knows no command.

use super::client::Client;
use super::dispatch::{self, Context};
use super::request::Args;
use crate::protocol::resp::{Arguments, FramingError, Limits, Reply, parse};
use crate::protocol::{Parsed, is_http};
use crate::session::{Advance, Close, OUTPUT_PIECE, Session, Shared};
use std::sync::Arc;

/// The largest reply that one request may build, in bytes, EXEC with all its commands among them;
/// one value or message may exceed it by its own length.
pub(super) const REPLY_LIMIT: usize = 32 << 20;

/// Arguments of one request, as in Redis.
const MAX_ARGUMENTS: usize = 1024 * 1024;

/// Bytes of an inline command, as in Redis.
const MAX_INLINE: usize = 64 * 1024;

/// What a request, or all queued requests of a transaction, may take beside large messages.
const REQUEST_BYTES: usize = 64 << 20;

/// One Redis client's conversation.
pub struct RedisSession {
    shared: Arc<Shared>,
    limits: Limits,
    arguments: Arguments,
    pub(super) client: Client,
    pub(super) reply_limit: usize,
}

impl RedisSession {
    /// `id` is unique among the daemon's connections, `peer` the client's address; CLIENT shows
    /// them.
    pub fn new(shared: Arc<Shared>, id: u64, peer: String) -> RedisSession {
        RedisSession {
            limits: limits(&shared),
            shared,
            arguments: Arguments::default(),
            client: Client::new(id, peer),
            reply_limit: REPLY_LIMIT,
        }
    }

    fn execute(&mut self, request: &[u8], output: &mut Vec<u8>, advance: &mut Advance) {
        let args = Args::new(request, &self.arguments);
        if args.is_empty() {
            return;
        }
        if args.is_inline() && is_http(args.get(0), args.get(args.len() - 1)) {
            advance.close = Some(Close::Http);
            return;
        }
        let mut context = Context {
            shared: &self.shared,
            reply_end: output.len().saturating_add(self.reply_limit),
            ticket: advance.ticket,
            close: None,
            client: &mut self.client,
        };
        let version = context.client.version;
        let mut reply = Reply { out: output, version };
        dispatch::handle(&mut context, args, &mut reply);
        advance.ticket = context.ticket;
        advance.close = context.close;
    }
}

impl Session for RedisSession {
    fn advance(&mut self, input: &[u8], output: &mut Vec<u8>) -> Advance {
        let mut advance = Advance::default();
        while output.len() < OUTPUT_PIECE && advance.close.is_none() {
            let rest = input.get(advance.consumed..).unwrap_or_default();
            match parse(rest, &mut self.arguments, &self.limits) {
                Ok(Parsed::Complete { consumed }) => {
                    let request = rest.get(..consumed).unwrap_or_default();
                    self.execute(request, output, &mut advance);
                    advance.consumed += consumed;
                }
                Ok(Parsed::Partial { need }) => {
                    advance.need = need;
                    break;
                }
                Err(FramingError(text)) => {
                    let version = self.client.version;
                    let text = format!("ERR Protocol error: {text}");
                    Reply { out: output, version }.error(&text);
                    advance.close = Some(Close::Framing);
                }
            }
        }
        advance
    }
}

/// What a request may ask for; the requests of a transaction are parsed under the same limits.
pub(super) fn limits(shared: &Shared) -> Limits {
    Limits {
        max_arguments: MAX_ARGUMENTS,
        max_bulk: shared.max_message,
        max_inline: MAX_INLINE,
        max_request: request_limit(shared),
    }
}

/// Bytes of one request, and of all requests that a transaction may queue.
pub(super) fn request_limit(shared: &Shared) -> usize {
    shared.max_message.saturating_mul(4).saturating_add(REQUEST_BYTES)
}
