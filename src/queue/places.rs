//! The slots of all queues, and room for another where there are as many as there may be: empty
//! ones make place.

use super::slot::{Census, Retired, Slot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The most empty queues that go at once to make room for another.
const RETIRED_AT_ONCE: usize = 16;

/// The most slots that one refusal of another queue looks at.
const LOOKED_AT_ONCE: usize = 256;

/// The slots of all queues.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) by_name: HashMap<Box<[u8]>, Arc<Slot>>,
    /// Slots that have been taken out.
    pub(super) removed: u64,
    /// The same ones in the order of `scan`.
    pub(super) by_id: BTreeMap<u64, Arc<Slot>>,
    pub(super) last_id: u64,
    pub(super) census: Arc<Census>,
}

impl Slots {
    pub(super) fn insert(&mut self, make: impl FnOnce(u64) -> Slot) -> Arc<Slot> {
        self.last_id += 1;
        let mut slot = make(self.last_id);
        slot.enter(&self.census);
        let slot = Arc::new(slot);
        self.by_name.insert(slot.name.clone(), Arc::clone(&slot));
        self.by_id.insert(slot.id, Arc::clone(&slot));
        slot
    }

    pub(super) fn remove(&mut self, slot: &Slot) {
        self.by_name.remove(&slot.name);
        self.by_id.remove(&slot.id);
        self.removed += 1;
    }
}

/// Slots that may make room for another.
#[derive(Default)]
pub(super) struct Candidates {
    /// Each that is empty, and those that were when they were listed.
    pub(super) empty: Vec<Arc<Slot>>,
    /// Those that will be empty because their messages die, by when the last one does and by their
    /// number: nobody works on them then.
    mortal: BTreeMap<(u64, u64), Arc<Slot>>,
}

impl Candidates {
    /// Takes a few empty slots out of the map, and returns true if there may be more. Each slot is
    /// looked at once for each time that it became empty, so a refusal costs little however many
    /// queues there are.
    pub(super) fn make_place(&mut self, slots: &mut Slots, now_ms: u64) -> bool {
        let Candidates { empty, mortal } = self;
        let (mut busy, mut kept, mut retired) = (Vec::new(), Vec::new(), 0);
        for _ in 0..LOOKED_AT_ONCE {
            let Some(first) = mortal.first_entry().filter(|it| it.key().0 <= now_ms) else { break };
            empty.push(first.remove());
        }
        for _ in 0..LOOKED_AT_ONCE {
            if retired == RETIRED_AT_ONCE {
                break;
            }
            let Some(slot) = empty.pop() else { break };
            match slot.retire(now_ms) {
                Retired::Now => {
                    slots.remove(&slot);
                    retired += 1;
                }
                Retired::Not => {}
                Retired::NotBefore(dies_at) => drop(mortal.insert((dies_at, slot.id), slot)),
                Retired::NotInTransaction => kept.push(slot),
                Retired::NotYet => busy.push(slot),
            }
        }
        empty.append(&mut busy);
        let may_be_more = !empty.is_empty();
        empty.append(&mut kept);
        may_be_more
    }

    /// Slots that are out of the map are not empty ones either.
    pub(super) fn forget_retired(&mut self, slots: &Slots) {
        self.empty.retain(|slot| slots.by_id.contains_key(&slot.id));
        self.mortal.retain(|_, slot| slots.by_id.contains_key(&slot.id));
    }
}
