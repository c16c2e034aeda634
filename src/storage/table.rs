//! A hash table of entries of eight bytes, a cache line of them at a time.
//!
//! An entry's upper 24 bits are its hash, by which it is found; no two entries have the same. An
//! index of millions of messages is far larger than any cache, so what a question costs is the
//! lines of memory that it touches: here one, most often, and an entry that is put in after it was
//! not found goes into the last of them.
//!
//! 1. An entry is in its home line, which its hash chooses, or in one behind it, the last line
//!    being before the first; all lines between home and there are full.
//! 2. At least one slot in six is empty, so a search ends.
//! 3. A slot of zero is empty. So the entry 0 cannot be here: that is its owner's affair.

use crate::memory::{self, NoMemory};
use rustix::mm::{Advice, madvise};
use std::mem::MaybeUninit;

/// Bits of an entry below its hash.
pub const ORDINAL_BITS: u32 = 40;
/// These bits.
pub const ORDINAL_MASK: u64 = (1 << ORDINAL_BITS) - 1;

/// Slots of a line: 64 bytes.
const LINE: usize = 8;

/// Bytes of a huge page on most machines.
const HUGE_PAGE: usize = 2 << 20;

/// An empty slot.
pub const EMPTY: u64 = 0;

/// Whether two entries have the same hash.
pub fn same_hash(one: u64, other: u64) -> bool {
    (one ^ other) & !ORDINAL_MASK == 0
}

/// Entries by their hashes.
#[derive(Debug, Default)]
pub struct Table {
    /// Lines of slots, from `start` on.
    slots: Vec<u64>,
    /// Slots before the first line: lines are aligned to their size.
    start: usize,
    lines: usize,
    len: usize,
}

/// Where a search ended: at what it was for, or at the slot where that would go.
enum Found {
    Entry(usize),
    Empty(usize),
}

impl Table {
    /// The entry with the hash of `wanted`.
    pub fn find(&self, wanted: u64) -> Option<u64> {
        match self.search(wanted, |entry| same_hash(entry, wanted))? {
            Found::Entry(slot) => Some(self.slots[slot]),
            Found::Empty(_) => None,
        }
    }

    /// Adds `entry`, which is not 0, and returns true; or false if there is one with its hash.
    ///
    /// # Errors
    /// There is no memory for a larger table.
    pub fn insert(&mut self, entry: u64) -> Result<bool, NoMemory> {
        // At thirteen sixteenths a third of the lines is full; a table of twice as many lines takes
        // 20 bytes an entry.
        if (self.len + 1) * 16 > self.lines * LINE * 13 {
            self.resize((self.lines * 2).max(1))?;
        }
        Ok(self.put(entry))
    }

    /// Adds `entry` where there is room for it.
    fn put(&mut self, entry: u64) -> bool {
        match self.search(entry, |other| same_hash(other, entry)) {
            Some(Found::Empty(slot)) => {
                self.slots[slot] = entry;
                self.len += 1;
                true
            }
            _ => false,
        }
    }

    /// Puts `entry` in the place of `old`, which has the same hash; false: `old` is not here.
    pub fn replace(&mut self, old: u64, entry: u64) -> bool {
        let found = self.search(old, |other| other == old);
        if let Some(Found::Entry(slot)) = found {
            self.slots[slot] = entry;
        }
        matches!(found, Some(Found::Entry(_)))
    }

    /// Removes `entry`; false: it is not here.
    pub fn remove(&mut self, entry: u64) -> bool {
        let Some(Found::Entry(slot)) = self.search(entry, |other| other == entry) else {
            return false;
        };
        self.empty(slot);
        self.len -= 1;
        // A slot takes eight bytes, so at a third an entry takes 24.
        if self.len * 3 < self.lines * LINE && self.lines > 1 {
            // Where there is no memory for a smaller table, this one stays.
            let _is_smaller = self.resize(self.lines.div_ceil(2));
        }
        true
    }

    /// Bytes that the table takes.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// The line where an entry with this hash is looked for first. The multiplication spreads the
    /// hash, which is random in its 24 bits, over 32.
    fn home(&self, entry: u64) -> usize {
        let spread = (entry >> ORDINAL_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((spread * self.lines as u64) >> 32) as usize
    }

    fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines { 0 } else { line + 1 }
    }

    /// The slots of a line, by their places in `slots`.
    fn places(&self, line: usize) -> std::ops::Range<usize> {
        let first = self.start + line * LINE;
        first..first + LINE
    }

    /// Looks from the home of `entry` on; None: there are no lines.
    fn search(&self, entry: u64, is_wanted: impl Fn(u64) -> bool) -> Option<Found> {
        if self.lines == 0 {
            return None;
        }
        let mut line = self.home(entry);
        loop {
            for place in self.places(line) {
                let there = self.slots[place];
                if there == EMPTY {
                    return Some(Found::Empty(place));
                }
                if is_wanted(there) {
                    return Some(Found::Entry(place));
                }
            }
            line = self.next(line);
        }
    }

    /// Empties a slot, and closes the hole that this leaves where entries behind it have passed
    /// over its line.
    fn empty(&mut self, slot: usize) {
        let mut hole = slot;
        loop {
            let hole_line = (hole - self.start) / LINE;
            // The slots of a line are filled from its front.
            let last = self.places(hole_line).rfind(|place| self.slots[*place] != EMPTY);
            let last = last.unwrap_or(hole);
            let was_full = last + 1 == self.places(hole_line).end;
            self.slots[hole] = self.slots[last];
            self.slots[last] = EMPTY;
            if !was_full {
                return;
            }
            match self.passed(hole_line) {
                Some(place) => {
                    self.slots[last] = self.slots[place];
                    hole = place;
                }
                None => return,
            }
        }
    }

    /// An entry behind `line` that would be in it had there been room.
    fn passed(&self, line: usize) -> Option<usize> {
        let distance = |from: usize, to: usize| (to + self.lines - from) % self.lines;
        let mut behind = self.next(line);
        while behind != line {
            for place in self.places(behind) {
                let entry = self.slots[place];
                if entry == EMPTY {
                    return None;
                }
                if distance(self.home(entry), behind) >= distance(line, behind) {
                    return Some(place);
                }
            }
            behind = self.next(behind);
        }
        None
    }

    /// Moves everything to a table of so many lines, which are enough.
    fn resize(&mut self, lines: usize) -> Result<(), NoMemory> {
        let mut slots: Vec<u64> = Vec::new();
        memory::reserve_exact(&mut slots, lines * LINE + LINE - 1)?;
        // A pointer that cannot be aligned costs speed and nothing else.
        let start = slots.as_ptr().align_offset(LINE * size_of::<u64>()).min(LINE - 1);
        prefer_huge_pages(slots.spare_capacity_mut());
        // Written here, in order. Where zeros come from the system, the first look at a page would
        // have the page of zeros that all share, and the first entry would take it away again, from
        // every processor that runs the daemon.
        slots.resize(start + lines * LINE, EMPTY);
        let old = std::mem::replace(self, Table { slots, start, lines, len: 0 });
        for entry in old.slots.into_iter().filter(|entry| *entry != EMPTY) {
            self.put(entry);
        }
        Ok(())
    }
}

/// Asks for huge pages, for those that lie in the table as a whole. A question to a large table
/// misses the caches anyway; with small pages it also misses what the processor keeps of the page
/// table, which costs as much again.
fn prefer_huge_pages(slots: &[MaybeUninit<u64>]) {
    let size = size_of_val(slots);
    let skipped = slots.as_ptr().cast::<u8>().align_offset(HUGE_PAGE).min(size);
    let inside = (size - skipped) / HUGE_PAGE * HUGE_PAGE;
    if inside == 0 {
        return;
    }
    let first = slots.as_ptr().wrapping_byte_add(skipped).cast_mut().cast();
    // SAFETY: the range is inside of `slots`, and the advice changes no byte of it. It stays with
    // these addresses when the table is gone, for whatever the allocator puts there then.
    let advised = unsafe { madvise(first, inside, Advice::LinuxHugepage) };
    // A kernel without huge pages goes on with small ones.
    let _is_taken = advised.is_ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::HashMap;

    /// Few hashes, many of them with the same home, while the table grows and shrinks.
    #[test]
    fn a_table_is_a_map_by_hash() {
        let mut generator = Random::seeded();
        let mut random = |below| generator.below(below);
        for hashes in [3, 40, 1000] {
            let (mut table, mut model) = (Table::default(), HashMap::new());
            for step in 0..30_000 {
                let hash = random(hashes);
                let entry = hash << ORDINAL_BITS | (1 + random(3));
                let wants_more = step / 5000 % 2 == 0;
                if random(3) == 0 || wants_more {
                    let is_new = !model.contains_key(&hash);
                    model.entry(hash).or_insert(entry);
                    assert_eq!(table.insert(entry), Ok(is_new));
                } else if random(4) == 0 {
                    let old = model.get(&hash).copied().filter(|old| *old == entry);
                    let other = hash << ORDINAL_BITS | 9;
                    old.map(|_| model.insert(hash, other));
                    assert_eq!(table.replace(entry, other), old.is_some());
                } else {
                    let is_here = model.get(&hash) == Some(&entry);
                    is_here.then(|| model.remove(&hash));
                    assert_eq!(table.remove(entry), is_here);
                }
                assert_eq!(table.len, model.len());
                if step % 16 == 0 {
                    check(&table);
                }
                let wanted = random(hashes);
                let found = table.find(wanted << ORDINAL_BITS);
                assert_eq!(found, model.get(&wanted).copied());
            }
            for hash in 0..hashes {
                assert_eq!(table.find(hash << ORDINAL_BITS), model.get(&hash).copied());
            }
        }
    }

    /// The invariants of the table, and that lines are filled from their front.
    fn check(table: &Table) {
        let is_full = |line| table.slots[table.places(line)].iter().all(|slot| *slot != EMPTY);
        for line in 0..table.lines {
            let slots = &table.slots[table.places(line)];
            assert!(slots.is_sorted_by_key(|slot| *slot == EMPTY), "a hole in {slots:?}");
            for entry in slots.iter().filter(|slot| **slot != EMPTY) {
                let mut passed = table.home(*entry);
                while passed != line {
                    assert!(is_full(passed), "an entry of line {passed} is in line {line}");
                    passed = table.next(passed);
                }
            }
        }
        let empty = table.slots.iter().filter(|slot| **slot == EMPTY).count();
        assert!(
            empty * 6 >= table.lines * LINE,
            "{empty} slots of {} are empty",
            table.lines * LINE
        );
    }

    #[test]
    fn lines_are_aligned_to_the_cache() {
        let mut table = Table::default();
        (1..=10_000).for_each(|hash| assert_eq!(table.insert(hash << ORDINAL_BITS), Ok(true)));
        assert_eq!(table.slots[table.start..].as_ptr().align_offset(64), 0);
    }

    /// `VmFlags` of the mapping that `address` lies in, as the system tells them.
    fn flags_of(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_wanted = false;
        for line in maps.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            if let Some((Some(start), Some(end))) = range.map(|(a, b)| (number(a), number(b))) {
                is_wanted = (start..end).contains(&address);
            } else if is_wanted && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.into();
            }
        }
        panic!("nothing is mapped there");
    }

    #[test]
    fn a_large_table_asks_for_huge_pages() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            return;
        }
        let mut table = Table::default();
        table.resize(4 * HUGE_PAGE / 64).unwrap();
        let middle = table.places(table.lines / 2).start;
        let address = table.slots[middle..].as_ptr() as usize;
        assert!(flags_of(address).split(' ').any(|flag| flag == "hg"));
    }
}
