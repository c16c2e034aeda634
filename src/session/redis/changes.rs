//! What the requests of a transaction may change in each queue, before the first of them runs.
//!
//! It is more than they will do where that depends on what is in the queues by then, and never
//! less.

use super::command::Command;
use super::progress::{Measured, measure_removals};
use super::request::Args;
use crate::protocol::number::parse_u64;
use crate::queue::{Changes, NAME_MAX, Queue, Queues, Ticket};
use crate::session::budget::{Budget, DROP, LOOK};
use std::collections::BTreeMap;

/// By queue, as far as the requests have been looked at.
#[derive(Default)]
pub(super) struct Plan {
    queues: BTreeMap<Box<[u8]>, Changes>,
    drops_all: bool,
    /// Of names that are too long for a queue: such requests are refused when they run.
    refused: Changes,
}

impl Plan {
    /// Adds what a request may do; false: to find that out takes too long.
    pub fn add(
        &mut self,
        queues: &Queues,
        command: &Command,
        args: Args<'_>,
        budget: &mut Budget,
    ) -> bool {
        budget.spend(1);
        match command.name {
            "sadd" => self.push(args.get(1), args.from(2)),
            "addjob" => self.push(args.get(1), std::iter::once(args.get(2))),
            "spop" => {
                let pops = &mut self.of(args.get(1)).size.pops;
                *pops = pops.saturating_add(popped(args));
            }
            "srem" => {
                let size = &mut self.of(args.get(1)).size;
                // What the transaction has pushed by then may be equal too.
                let more = size.pushes;
                let count = removed(queues, args, budget).saturating_add(more);
                size.removals = size.removals.saturating_add(count);
            }
            "smove" if args.get(1) != args.get(2) => {
                self.of(args.get(1)).size.moves += 1;
                self.push(args.get(2), args.from(3));
            }
            "del" | "unlink" => {
                // Of a list, as much as DEL itself spends.
                budget.spend(DROP.saturating_mul(args.len().saturating_sub(2) as u64));
                if !budget.is_used_up() {
                    args.from(1).for_each(|name| self.of(name).drops = true);
                }
            }
            "flushall" | "flushdb" => self.drops_all = true,
            _ => {}
        }
        !budget.is_used_up()
    }

    fn of(&mut self, name: &[u8]) -> &mut Changes {
        if name.len() > NAME_MAX {
            return &mut self.refused;
        }
        self.queues.entry(name.into()).or_default()
    }

    fn push<'a>(&mut self, name: &[u8], bodies: impl Iterator<Item = &'a [u8]>) {
        let size = &mut self.of(name).size;
        for body in bodies {
            size.pushes += 1;
            size.pushed_bytes += body.len() as u64;
        }
    }

    /// The changes of each queue that are to be one step. To be dropped in a step, a queue is
    /// emptied message by message: where that takes too long it is left out.
    pub fn settle(
        &mut self,
        queues: &Queues,
        budget: &mut Budget,
    ) -> impl Iterator<Item = (&[u8], Changes)> {
        self.queues.retain(|name, changes| {
            changes.drops |= self.drops_all;
            if !changes.drops {
                return true;
            }
            let find = |queue: &mut Queue| Ok((queue.held(), queue.gaps()));
            let found = queues.find(name, &mut Ticket::default(), find).ok().flatten();
            let (len, gaps) = found.unwrap_or_default();
            let most = len.saturating_add(changes.size.pushes);
            let steps = most.saturating_mul(LOOK).saturating_add(gaps);
            let is_short = budget.affords(steps);
            budget.spend(if is_short { steps } else { 0 });
            is_short
        });
        self.queues.iter().map(|(name, changes)| (&**name, *changes))
    }
}

/// Messages that SPOP pops at most.
fn popped(args: Args<'_>) -> u64 {
    match args.len() {
        2 => 1,
        _ => parse_u64(args.get(2)).unwrap_or(0),
    }
}

/// Messages that SREM removes at most of those that are there, as far as the budget goes.
fn removed(queues: &Queues, args: Args<'_>, budget: &mut Budget) -> u64 {
    let (mut measured, mut leased) = (Measured::default(), 0);
    let counted = queues.find(args.get(1), &mut Ticket::default(), |queue| {
        // These may come back before it runs.
        leased = queue.leased();
        measure_removals(queue, args, &mut measured, budget)
    });
    // Without an index nobody knows.
    counted.map_or(u64::MAX, |_| measured.count.saturating_add(leased))
}
