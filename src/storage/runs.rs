//! Sets of numbers, kept as runs: consecutive numbers cost one entry, however many there are, and
//! are passed in one step. Entries are allocated in small pieces, as everywhere in this program
//! without a check, so nothing here fails.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers. Of its runs none is empty, and no two overlap or touch.
#[derive(Debug, Default)]
pub struct Runs {
    /// The end of each run, which is excluded, by its start.
    ends: BTreeMap<u64, u64>,
}

impl Runs {
    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without numbers.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The run that `number` is in.
    pub fn run(&self, number: u64) -> Option<Range<u64>> {
        let (start, end) = self.ends.range(..=number).next_back()?;
        (number < *end).then_some(*start..*end)
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.run(number).is_some()
    }

    /// The first number from `number` on that is not in the set.
    pub fn skip(&self, number: u64) -> u64 {
        self.run(number).map_or(number, |run| run.end)
    }

    /// Adds the numbers of `run`, some of which may be in the set.
    pub fn insert(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        let Range { start, mut end } = run;
        while let Some((next, behind)) = self.ends.range(start..=end).next() {
            let next = *next;
            end = end.max(*behind);
            self.ends.remove(&next);
        }
        match self.ends.range_mut(..start).next_back() {
            Some((_, before)) if *before >= start => *before = end.max(*before),
            _ => _ = self.ends.insert(start, end),
        }
    }

    /// Removes the run that `number` is in from the set, and returns it.
    pub fn remove_run(&mut self, number: u64) -> Option<Range<u64>> {
        let run = self.run(number)?;
        self.ends.remove(&run.start);
        Some(run)
    }

    /// Removes all numbers below `number`.
    pub fn remove_below(&mut self, number: u64) {
        while let Some(first) = self.ends.first_entry().filter(|first| *first.key() < number) {
            let end = first.remove();
            if end > number {
                self.ends.insert(number, end);
            }
        }
    }

    /// How many numbers of `range` are in the set.
    pub fn count_within(&self, range: &Range<u64>) -> u64 {
        let first = self.run(range.start).map_or(range.start, |run| run.start);
        let runs = self.ends.range(first..range.end.max(first));
        runs.map(|(start, end)| range.end.min(*end).saturating_sub(range.start.max(*start))).sum()
    }

    /// Removes all numbers.
    pub fn clear(&mut self) {
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeSet;

    /// Beside a set of single numbers.
    #[test]
    fn they_answer_as_a_set_does() {
        let (mut random, mut runs) = (Random::seeded(), Runs::default());
        let mut model = BTreeSet::new();
        for _ in 0..20_000 {
            let number = random.below(200);
            let range = number..number + random.below(12);
            match random.below(12) {
                0 => {
                    let run = runs.remove_run(number);
                    assert_eq!(run.is_some(), model.contains(&number));
                    run.into_iter().flatten().for_each(|number| _ = model.remove(&number));
                }
                1 => {
                    let least = random.below(40);
                    runs.remove_below(least);
                    model.retain(|number| *number >= least);
                }
                2..5 => {
                    runs.insert(range.clone());
                    model.extend(range.clone());
                }
                _ => {}
            }
            let starts = model.iter().filter(|it| **it == 0 || !model.contains(&(**it - 1)));
            assert_eq!((runs.len(), runs.is_empty()), (starts.count(), model.is_empty()));
            assert_eq!(runs.contains(number), model.contains(&number));
            let next = (number..).find(|number| !model.contains(number));
            assert_eq!(Some(runs.skip(number)), next);
            assert_eq!(runs.count_within(&range), model.range(range).count() as u64);
        }
    }
}
