//! Room for another queue where there are as many as there may be: empty ones make place.

use super::queues::{Queues, Slots};
use super::slot::{Retired, Slot, State};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

/// The most empty queues that go at once to make room for another.
const RETIRED_AT_ONCE: usize = 16;

/// The most slots that one refusal of another queue looks at.
const LOOKED_AT_ONCE: usize = 256;

/// Slots whose messages all expire, by when the last one does and by their number.
pub(super) type Mortal = BTreeMap<(u64, u64), Arc<Slot>>;

impl Queues {
    // A list has no half-made state: what a panic left is good.
    pub(super) fn empty(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.empty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mortal(&self) -> MutexGuard<'_, Mortal> {
        self.mortal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a few empty slots out of the map, and returns true if there may be more. Each slot is
    /// looked at once for each time that it became empty, so a refusal costs little however many
    /// queues there are.
    pub(super) fn make_place(&self, slots: &mut Slots) -> bool {
        let now_ms = self.clock.now_ms();
        let (mut empty, mut retired) = (self.empty(), 0);
        let (mut busy, mut kept) = (Vec::new(), Vec::new());
        let mut mortal = self.mortal();
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
    pub(super) fn forget_retired(&self) {
        let slots = self.slots();
        self.empty().retain(|slot| slots.by_id.contains_key(&slot.id));
        self.mortal().retain(|_, slot| slots.by_id.contains_key(&slot.id));
    }

    /// Lists a slot that has become empty.
    pub(super) fn list(&self, slot: &Arc<Slot>, state: &mut State) {
        state.listed = true;
        self.empty().push(Arc::clone(slot));
    }
}
