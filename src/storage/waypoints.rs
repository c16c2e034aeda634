//! Where to start looking for a message by its number.
//!
//! Messages lie in the order of their numbers where they were pushed, but not at even distances:
//! removals, copies and long bodies are between them. So each segment notes the place of a message
//! here and there. These places cost 16 bytes for [`SPACING`] bytes of log, and a look starts less
//! than that before the message it is for.

use crate::memory;

/// Bytes of log from one place to the next, at least.
pub const SPACING: u64 = 32 * 1024;

/// A place in the log: of the messages numbered `from` or higher, none that lies where it was
/// pushed lies before `position`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waypoint {
    /// The number of a message.
    pub from: u64,
    /// A position in the log.
    pub position: u64,
}

/// The places of one segment, in the order of their numbers and of their positions.
#[derive(Debug, Default)]
pub struct Waypoints {
    places: Vec<Waypoint>,
}

impl Waypoints {
    /// Notes a place if looks for its number would start [`SPACING`] bytes before it or more. Where
    /// no place is noted they start at `start`.
    pub fn note(&mut self, place: Waypoint, start: u64) {
        let index = self.index_behind(place.from);
        let before = index.checked_sub(1).map_or(start, |index| self.places[index].position);
        let is_far = place.position >= before.saturating_add(SPACING);
        // Without a place, looks pass more of the log, and find the same.
        if is_far && memory::reserve(&mut self.places, 1).is_ok() {
            // Where messages were that damage has taken, others may have been noted.
            let passed = self.places[index..].iter().take_while(|it| it.position <= place.position);
            let end = index + passed.count();
            self.places.splice(index..end, [place]);
        }
    }

    /// The position to look from for message `number`, or `None` if no place is noted before it.
    pub fn before(&self, number: u64) -> Option<u64> {
        let index = self.index_behind(number).checked_sub(1)?;
        self.places.get(index).map(|place| place.position)
    }

    fn index_behind(&self, number: u64) -> usize {
        match self.places.last() {
            Some(last) if last.from > number => {
                self.places.partition_point(|place| place.from <= number)
            }
            _ => self.places.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_starts_a_little_before_its_message() {
        let mut waypoints = Waypoints::default();
        let position_of = |number: u64| 100 + number * 1000;
        for number in 0..1000 {
            waypoints.note(Waypoint { from: number, position: position_of(number) }, 100);
        }
        let spaced = SPACING.div_ceil(1000);
        assert_eq!(waypoints.places.len() as u64, 999 / spaced);
        for number in 0..1000 {
            let start = waypoints.before(number).unwrap_or(100);
            assert!(start <= position_of(number) && start + SPACING > position_of(number));
        }
        // Of numbers that no message has, a place may be noted between the others, or for them.
        waypoints.note(Waypoint { from: 1500, position: position_of(5000) }, 100);
        waypoints.note(Waypoint { from: 1200, position: position_of(1200) }, 100);
        waypoints.note(Waypoint { from: 1400, position: position_of(5001) }, 100);
        let starts = [1199, 1200, 1399, 1400, 1500].map(|number| waypoints.before(number));
        let expected = [999 / spaced * spaced, 1200, 1200, 5001, 5001];
        let expected = expected.map(|it| Some(position_of(it)));
        assert_eq!(starts, expected);
    }

    /// Clients choose what is looked for inside damage: each look for a lower number added a place.
    #[test]
    fn looks_that_end_at_one_position_leave_one_place() {
        let mut waypoints = Waypoints::default();
        for from in (0..100).rev() {
            waypoints.note(Waypoint { from, position: SPACING }, 0);
            assert_eq!(waypoints.places, [Waypoint { from, position: SPACING }]);
        }
    }
}
