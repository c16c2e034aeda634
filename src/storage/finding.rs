//! What is found in files and needs a decision, as values (rule 16).
//!
//! Each kind of finding has a label, which log lines and test names carry, and the table here says
//! what is decided about it. `storage-format.md` has the same table and gives the reasons; a test
//! compares the two. "Durable" is what a cursor or a later record says was durable. This file knows
//! no bytes; the code that looks at them makes a [`Finding`].

use std::fmt;
use std::path::PathBuf;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A crash leaves such things, or somebody else does; no message is lost.
    Note,
    /// Something that was durable is not what it was. A strict start refuses it.
    Damage,
    /// The queue is closed, and nothing of it is touched. A strict start is refused.
    Refusal,
}

/// A row of the decision table.
struct Row {
    label: Label,
    name: &'static str,
    found: &'static str,
    done: &'static str,
    weight: Weight,
}

/// Makes [`Label`] and its table from one list, so that no label is without its decision.
macro_rules! labels {
    ($($label:ident, $weight:ident, $name:literal, $found:literal, $done:literal;)*) => {
        /// The kind of a finding: a row of the decision table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Label {
            $(#[doc = $found] $label,)*
        }

        const TABLE: &[Row] = &[
            $(Row {
                label: Label::$label,
                name: $name,
                found: $found,
                done: $done,
                weight: Weight::$weight,
            },)*
        ];
    };
}

labels! {
    UnbornQueue, Note, "unborn-queue",
        "a folder without a segment",
        "it is removed";
    UnbornSegment, Note, "unborn-segment",
        "a file of zeros, or of nothing",
        "it is removed";
    DeadSegment, Note, "dead-segment",
        "a segment from before the cursor's oldest one",
        "it is removed";
    ForeignSegment, Refusal, "foreign-segment",
        "a header of another queue or position, no sign of a segment, or a queue with two folders",
        "the queue is closed";
    OverlappingSegment, Refusal, "overlapping-segment",
        "two segments that hold the same positions",
        "the queue is closed";
    NewerFormat, Refusal, "newer-format",
        "an intact header, whole settings or a whole record of a newer format",
        "the queue is closed";
    RottenHeader, Damage, "rotten-header",
        "a damaged header",
        "it is read by the file's name";
    LostKey, Refusal, "lost-key",
        "records, and no header or slot that says the key of their checksums",
        "the queue is closed";
    ShortSegment, Damage, "short-segment",
        "a file shorter than its header says",
        "what is there is read; a new one is begun behind the newest in use; a spare is removed";
    MissingSegment, Damage, "missing-segment",
        "a gap between segments, or none where the log has gone on to",
        "the others are read";
    NoCursor, Note, "no-cursor",
        "no valid slot, and nothing durable",
        "everything is delivered";
    LostCursor, Damage, "lost-cursor",
        "no valid slot where a sync had made one durable",
        "everything is delivered that no removal names";
    TornTail, Note, "torn-tail",
        "a bad record, a hole or an unfinished step, not durable",
        "zeros from there on, synced";
    RottenRecord, Damage, "rotten-record",
        "a bad record or a hole, durable",
        "it is passed over";
    LostEnd, Damage, "lost-end",
        "the records end before what was durable",
        "what is there is read";
    CleanEnd, Note, "clean-end",
        "zeros behind the last record",
        "the log goes on there";
    BadSlot, Note, "bad-slot",
        "a cursor slot that is not valid, or bytes behind one",
        "what is not valid is passed over";
    BadFooter, Note, "bad-footer",
        "bytes behind a segment that are no footer of it",
        "the records are read";
    FalseFooter, Damage, "false-footer",
        "a valid footer that says something else than the records",
        "it is believed";
    DroppedQueue, Note, "dropped-queue",
        "the folder of a queue that was dropped",
        "it is removed";
    SetAside, Note, "set-aside",
        "a copy of a segment that was damaged",
        "it is kept";
    UnknownFile, Note, "unknown-file",
        "a file or folder with a name that has no meaning here",
        "it is not looked at";
}

impl Label {
    /// All labels, in the order of the table.
    pub fn all() -> impl Iterator<Item = Label> {
        TABLE.iter().map(|row| row.label)
    }

    fn row(self) -> &'static Row {
        // The table and the labels come from one list.
        &TABLE[self as usize]
    }

    /// As log lines and test names have it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What is found.
    pub fn found(self) -> &'static str {
        self.row().found
    }

    /// What recovery does about it.
    pub fn done(self) -> &'static str {
        self.row().done
    }

    /// How much it weighs.
    pub fn weight(self) -> Weight {
        self.row().weight
    }
}

/// Something found in the files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, or the folder, that it is about.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What it is.
    pub label: Label,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Finding {
    /// True when something that was durable is not what it was.
    pub fn is_damage(&self) -> bool {
        self.label.weight() == Weight::Damage
    }

    /// How loudly a log says it.
    pub fn level(&self) -> log::Level {
        match self.label.weight() {
            Weight::Damage | Weight::Refusal => log::Level::Error,
            // What was being written at a crash is gone with it, though nobody was answered.
            Weight::Note if self.label == Label::TornTail => log::Level::Warn,
            Weight::Note => log::Level::Info,
        }
    }
}

/// As a log line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { file, offset, label, expected, found } = self;
        let (file, label) = (file.display(), label.name());
        write!(f, "{file}: at offset {offset}: expected {expected}, found {found} [{label}]")
    }
}
