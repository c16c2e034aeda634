//! Damage drills: small queues, spoiled in every way that a medium or a person may spoil them, and
//! what becomes of their messages then.
//!
//! Every case changes the files of a queue (or of several) and then looks at four things:
//!
//! 1. `Inspection::verify` names the fault, with the file, and writes nothing. So does the program
//!    `mq-dump verify`, for each set of labels once in a process.
//! 2. A strict start refuses what is damage and touches nothing.
//! 3. A start delivers exactly what the oracle says: no message that was not pushed, none that was
//!    popped or removed but where the recovery table says so, and every one that is outside the
//!    damaged record. Nothing is lost without a damage that is named.
//! 4. The log is worked on, and opened again: it delivers the same, and says nothing new.
//!
//! The oracle (`oracle.rs`) shares no code with the engine. It knows from the whole files
//! (`image.rs`) which record, slot or header each byte belongs to, and from `storage-format.md`
//! what is live without it. It differs from a reader of the files in one thing: a footer is
//! believed about its segment's removals and copies, also where these are damaged.
//!
//! Most queues are small, so that every byte of them can be tried. One has many segments
//! (`large.rs`), of which a choice is tried.
//!
//! Every length is tried with `MQ_DAMAGE=all`, and every bit, but of zeros that mean nothing one in
//! each byte: about eight minutes with `--release` and two processors. Else there is a choice: of
//! bits one in every third byte that means something, and few in bytes that mean nothing, by a
//! seed that is printed (`MQ_TEST_SEED` repeats it); of lengths those around everything that begins
//! or ends. All files are always tried.

mod bits;
mod cuts;
mod drill;
mod image;
mod large;
mod moves;
mod oracle;
mod world;
