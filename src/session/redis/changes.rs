//! What the requests of a transaction may change in each queue, before the first of them runs.
//!
//! It is more than they will do where that depends on what is in the queues by then, and never
//! less.

use super::blocking_pops;
use super::command::Command;
use super::progress::{Measured, measure_removals};
use super::request::Args;
use crate::protocol::number::parse_u64;
use crate::queue::{Changes, NAME_MAX, Queue, Queues, Ticket};
use crate::session::budget::{Budget, LOOK, QUEUE_IN_STEP};
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
    /// Adds what a request may do, and returns false if it takes too long to find that out.
    pub fn add(
        &mut self,
        queues: &Queues,
        command: &Command,
        args: Args<'_>,
        budget: &mut Budget,
    ) -> bool {
        match command.name {
            "sadd" => self.push(args.get(1), args.from(2)),
            "addjob" => self.push(args.get(1), std::iter::once(args.get(2))),
            "spop" => {
                let pops = &mut self.of(args.get(1)).size.pops;
                *pops = pops.saturating_add(popped(args));
            }
            "bspop" => {
                for name in command.keys(args) {
                    let pops = &mut self.of(name).size.pops;
                    *pops = pops.saturating_add(blocking_pops::popped(args));
                }
            }
            "srem" => {
                let size = &mut self.of(args.get(1)).size;
                budget.set_aside(command.steps(args));
                let Some(count) = removed(queues, args, budget) else { return false };
                // What the transaction has pushed by then may be equal too.
                size.removals = size.removals.saturating_add(count).saturating_add(size.pushes);
            }
            "smove" if args.get(1) != args.get(2) => {
                self.of(args.get(1)).size.moves += 1;
                self.push(args.get(2), args.from(3));
            }
            "del" | "unlink" => args.from(1).for_each(|name| self.of(name).drops = true),
            "flushall" | "flushdb" => self.drops_all = true,
            _ => {}
        }
        true
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
    pub fn settle<'p>(
        &'p mut self,
        queues: &Queues,
        budget: &mut Budget,
    ) -> impl Iterator<Item = (&'p [u8], Changes)> + use<'p> {
        self.queues.retain(|name, changes| {
            changes.drops |= self.drops_all;
            budget.spend(if changes.messages() > 0 { QUEUE_IN_STEP } else { 0 });
            if !changes.drops || !changes.are_several() {
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

/// Messages that SREM removes at most of those that are there, or `None` if the budget does not
/// suffice to count them.
fn removed(queues: &Queues, args: Args<'_>, budget: &mut Budget) -> Option<u64> {
    let (mut measured, mut leased) = (Measured::default(), 0);
    let counted = queues.find(args.get(1), &mut Ticket::default(), |queue| {
        // These may come back before it runs.
        leased = queue.leased();
        measure_removals(queue, args, &mut measured, budget)
    });
    match counted {
        Ok(Some(_)) if !measured.is_done => None,
        Ok(_) => Some(measured.count.saturating_add(leased)),
        // Without an index nobody knows.
        Err(_) => Some(u64::MAX),
    }
}
