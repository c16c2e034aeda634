//! Whole files: missing, zeroed, doubled, swapped, renamed; and whole folders.

use super::drill::{Case, Folder, run};
use super::image::Segment;
use super::large::large_queue;
use super::oracle::{Expected, Left, file_at, recover};
use super::world::{Files, Queue, whole_queues};
use crate::random::Random;
use mq::storage::Label;
use std::collections::BTreeMap;

type Whole = (Queue, Vec<Segment>);

/// What has to come of a queue without segment `index`, besides what is said of a file that is
/// still there.
pub fn without(segments: &[Segment], index: usize) -> Expected {
    let left = |segments: &[Segment]| segments.iter().map(Left::of).collect::<Vec<_>>();
    let (before, gone, behind) = (&segments[..index], &segments[index], &segments[index + 1..]);
    let mut expected = recover([left(before), left(behind)].concat());
    let is_used = |it: &Segment| !it.records.is_empty() || !it.slots.is_empty();
    let is_left = before.iter().chain(behind).any(|left| !left.slots.is_empty());
    if before.is_empty() && behind.is_empty() {
        expected.say(Label::UnbornQueue, "");
    } else if !is_left {
        // Nobody knows that the spare segments behind it were no beginning.
        expected.say(Label::NoCursor, &behind[0].file);
    } else if is_used(gone) || behind.iter().any(is_used) {
        expected.say(Label::MissingSegment, &gone.file);
    }
    if behind.iter().all(|spare| spare.slots.is_empty()) {
        expected.may = [Label::LostCursor, Label::NoCursor].into();
    }
    expected
}

/// Nothing has come of it.
fn nothing(segments: &[Segment]) -> Expected {
    recover(segments.iter().map(Left::of).collect())
}

/// Each file of each queue, by the indexes of queue and file.
fn each_file(queues: &[Whole]) -> Vec<(usize, usize)> {
    let files = |(queue, whole): (usize, &Whole)| {
        (0..whole.1.len()).map(move |file| (queue, file)).collect::<Vec<_>>()
    };
    queues.iter().enumerate().flat_map(files).collect()
}

/// Runs a case for each file of each queue; `spoil` changes the files and says what is to come.
fn each(queues: &[Whole], what: &str, spoil: impl Fn(&mut Files, &[Segment], usize) -> Expected) {
    run(&each_file(queues), |(queue, index)| {
        let (queue, segments) = &queues[*queue];
        let mut files = queue.files.clone();
        let expected = spoil(&mut files, segments, *index);
        let name = format!("{}/{} {what}", queue.folder, segments[*index].file);
        Case::of(name, queue, files, expected)
    });
}

#[test]
fn a_missing_file_costs_what_was_in_it() {
    each(&whole_queues(), "missing", |files, segments, index| {
        files.remove(&segments[index].file);
        without(segments, index)
    });
}

#[test]
fn a_missing_file_of_a_large_queue_costs_what_was_in_it() {
    each(&[large_queue(&mut Random::seeded())], "missing", |files, segments, index| {
        files.remove(&segments[index].file);
        without(segments, index)
    });
}

#[test]
fn a_file_of_zeros_costs_what_was_in_it() {
    each(&whole_queues(), "of zeros", |files, segments, index| {
        let file = &segments[index].file;
        files.get_mut(file).unwrap().fill(0);
        let mut expected = without(segments, index);
        expected.say(Label::UnbornSegment, file);
        expected
    });
}

#[test]
fn a_file_with_itself_appended_costs_nothing() {
    each(&whole_queues(), "doubled", |files, segments, index| {
        let file = &segments[index].file;
        let bytes = files[file].repeat(2);
        files.insert(file.clone(), bytes);
        let mut expected = nothing(segments);
        expected.say(Label::BadFooter, file);
        expected
    });
}

#[test]
fn a_file_copied_to_another_position_is_refused() {
    let queues = whole_queues();
    let last = |segments: &[Segment]| {
        let last = &segments[segments.len() - 1];
        last.base + last.size as u64
    };
    for distance in [0, 4096, 1 << 30] {
        each(&queues, &format!("copied {distance} behind the end"), |files, segments, index| {
            let target = file_at(last(segments) + distance);
            files.insert(target.clone(), files[&segments[index].file].clone());
            refused(&target)
        });
    }
    each(&queues, "copied into itself", |files, segments, index| {
        let target = file_at(segments[index].base + 4096);
        files.insert(target.clone(), files[&segments[index].file].clone());
        refused(&target)
    });
}

fn refused(file: &str) -> Expected {
    let mut expected = Expected::default();
    expected.say(Label::ForeignSegment, file);
    expected
}

#[test]
fn a_file_with_a_name_of_its_own_costs_nothing() {
    each(&whole_queues(), "copied aside", |files, segments, index| {
        let copy = format!("{}.bak", segments[index].file);
        files.insert(copy.clone(), files[&segments[index].file].clone());
        let mut expected = nothing(segments);
        expected.say(Label::UnknownFile, &copy);
        expected
    });
}

#[test]
fn swapped_files_are_refused() {
    let queues = whole_queues();
    let files = each_file(&queues);
    let pairs: Vec<_> = files
        .iter()
        .enumerate()
        .flat_map(|(index, one)| files[index + 1..].iter().map(move |other| (*one, *other)))
        .collect();
    run(&pairs, |(one, other)| {
        let bytes = |(queue, file): (usize, usize)| {
            let (queue, segments) = &queues[queue];
            (&segments[file].file, queue.files[&segments[file].file].clone())
        };
        let ((one_name, one_bytes), (other_name, other_bytes)) = (bytes(*one), bytes(*other));
        let mut folders = BTreeMap::new();
        for (place, name, bytes) in [(one, one_name, other_bytes), (other, other_name, one_bytes)] {
            let queue = &queues[place.0].0;
            let folder = folders.entry(queue.folder.clone()).or_insert_with(|| Folder {
                files: queue.files.clone(),
                queue,
                // Of two in one folder, the first one is refused.
                expected: refused(name),
            });
            folder.files.insert(name.clone(), bytes);
        }
        let folder = |place: &(usize, usize)| &queues[place.0].0.folder;
        let (one_folder, other_folder) = (folder(one), folder(other));
        let name = format!("{one_folder}/{one_name} swapped with {other_folder}/{other_name}");
        Case { name, folders }
    });
}

#[test]
fn swapped_folders_are_refused() {
    let queues = whole_queues();
    let count = queues.len();
    let pairs: Vec<_> =
        (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))).collect();
    run(&pairs, |(one, other)| {
        let (one, other) = (&queues[*one].0, &queues[*other].0);
        let folder = |holder: &Queue, queue| {
            let first = holder.files.keys().next().unwrap();
            (holder.files.clone(), queue, refused(first))
        };
        let folders = [(one, folder(other, one)), (other, folder(one, other))];
        let folders = folders.map(|(place, (files, queue, expected))| {
            (place.folder.clone(), Folder { files, queue, expected })
        });
        let name = format!("{} swapped with {}", one.folder, other.folder);
        Case { name, folders: folders.into() }
    });
}

#[test]
fn a_renamed_folder_is_refused_unless_its_name_says_nothing() {
    let queues = whole_queues();
    run(&queues, |(queue, segments)| {
        let (folder, expected) = match queue.folder.split_once('~') {
            Some((stem, _)) => (format!("{stem}~77"), nothing(segments)),
            None => (format!("{}-other", queue.folder), refused(&segments[0].file)),
        };
        let name = format!("{} renamed to {folder}", queue.folder);
        let renamed = Folder { files: queue.files.clone(), queue, expected };
        Case { name, folders: BTreeMap::from([(folder, renamed)]) }
    });
}

#[test]
fn a_folder_without_files_is_no_queue() {
    let queues = whole_queues();
    run(&queues, |(queue, _)| {
        let mut expected = Expected::default();
        expected.say(Label::UnbornQueue, "");
        Case::of(format!("{} emptied", queue.folder), queue, Files::new(), expected)
    });
}
