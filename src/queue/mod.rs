//! Queue: first-in first-out with membership, over a small message-store seam.
//!
//! [`Queues`] finds queues by name, [`Queue`] is one of them under its lock, [`MessageStore`] is
//! what a queue asks of a store: [`MemoryBacking`] keeps messages in memory, [`DiskBacking`] in
//! logs. [`Durability`] is what the server waits for before replies leave. Nothing here knows a
//! protocol or a socket.

mod chores;
mod claims;
mod closed;
mod delivery;
mod disk;
mod drops;
mod error;
mod expiring;
mod figures;
mod handover;
mod held;
mod hidden;
mod housekeeping;
mod identities;
mod leases;
mod ledger;
mod looks;
mod memory;
mod moves;
mod places;
mod queues;
mod single;
mod slot;
mod steps;
mod store;
mod sums;
mod transactions;
mod waiters;

pub use crate::storage::{Cause, Failures, Message, NewMessage, Place, StepSize};
pub use claims::{Claim, Waiting};
pub use disk::DiskBacking;
pub use drops::Drops;
pub use error::QueueError;
pub use figures::{Figures, Totals};
pub use handover::{HeldMessages, Registration};
pub use held::{Handle, Lent, Locked, Slice, Target};
pub use leases::Lease;
pub use ledger::{Durability, NothingToSync, Policy, ReplyVerdict, Ticket};
pub use looks::MessageState;
pub use memory::MemoryBacking;
pub use queues::{Limits, NAME_MAX, Queues};
pub use single::Queue;
pub use store::{Backing, MessageStore, NamedStore, Tidied};
pub use sums::Sums;
pub use transactions::{Changes, Steps};
pub use waiters::{Delivery, Handed, Wake};
