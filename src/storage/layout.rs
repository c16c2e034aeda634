//! The bytes of a segment file, as a chain of constants: every offset is the one before it plus a
//! width. `storage-format.md` describes the same chain in words. Integers are little-endian.

/// The first eight bytes of every segment file.
pub const MAGIC: [u8; 8] = *b"mqsegmnt";
/// The version that this program writes. A change of any constant of this file needs a new one, and
/// a reader of the old.
pub const VERSION: u16 = 2;
/// What a device writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;
/// Records start at multiples of this, in bytes.
pub const ALIGNMENT: usize = 8;

/// No position is higher: sums of positions and sizes cannot overflow.
pub const POSITION_MAX: u64 = 1 << 62;

/// All messages have lower numbers: one more than a number never overflows.
pub const SEQUENCE_END: u64 = 1 << 62;

/// The first number of a new queue: pushes at the head have room before it.
pub const FIRST_SEQUENCE: u64 = 1 << 61;

// The segment header, in the file's first sector.
/// [`MAGIC`].
pub const SEGMENT_MAGIC: usize = 0;
/// u16, the oldest version whose reader suffices.
pub const SEGMENT_READER: usize = SEGMENT_MAGIC + 8;
/// u16, the version that wrote it.
pub const SEGMENT_WRITER: usize = SEGMENT_READER + 2;
/// u32, crc32 of the whole header sector with this field taken as zero.
pub const SEGMENT_CRC: usize = SEGMENT_WRITER + 2;
/// u64, the position of the file's first byte in the queue's log.
pub const SEGMENT_BASE: usize = SEGMENT_CRC + 4;
/// u64, the file's length in bytes.
pub const SEGMENT_SIZE: usize = SEGMENT_BASE + 8;
/// u64, Unix time of creation in milliseconds.
pub const SEGMENT_CREATED_MS: usize = SEGMENT_SIZE + 8;
/// 16 bytes, the key of the queue's hashes.
pub const SEGMENT_HASH_KEY: usize = SEGMENT_CREATED_MS + 8;
/// u32, the length of the queue's name in bytes.
pub const SEGMENT_NAME_LENGTH: usize = SEGMENT_HASH_KEY + 16;
/// The queue's name.
pub const SEGMENT_NAME: usize = SEGMENT_NAME_LENGTH + 4;
/// The longest name of a queue, in bytes.
pub const NAME_MAX: usize = SECTOR - SEGMENT_NAME;

// The cursor slots, a sector each.
/// The first slot.
pub const SLOTS: usize = SECTOR;
/// How many there are: see `cursor.rs` for why four.
pub const SLOT_COUNT: usize = 4;
/// u64, grows by one from slot write to slot write.
pub const SLOT_GENERATION: usize = 0;
/// u64, all messages with lower numbers are gone.
pub const SLOT_HEAD: usize = SLOT_GENERATION + 8;
/// u64, no message has had this number or a higher one.
pub const SLOT_NEXT_SEQUENCE: usize = SLOT_HEAD + 8;
/// u64, the log was durable up to this position.
pub const SLOT_DURABLE: usize = SLOT_NEXT_SEQUENCE + 8;
/// u64, the base of the oldest segment that counts: what lies before it is dead.
pub const SLOT_OLDEST: usize = SLOT_DURABLE + 8;
/// u64, the position of the file's first byte, so that a misplaced slot does not pass.
pub const SLOT_BASE: usize = SLOT_OLDEST + 8;
/// 16 bytes, the key in the header again.
pub const SLOT_HASH_KEY: usize = SLOT_BASE + 8;
/// u16, the reader in the header again.
pub const SLOT_READER: usize = SLOT_HASH_KEY + 16;
/// u16, the writer in the header again.
pub const SLOT_WRITER: usize = SLOT_READER + 2;
/// u32, crc32 of the fields before it.
pub const SLOT_CRC: usize = SLOT_WRITER + 2;
/// Bytes used of a slot's sector.
pub const SLOT_SIZE: usize = SLOT_CRC + 4;

/// The first record.
pub const RECORDS: usize = SLOTS + SLOT_COUNT * SECTOR;

// What every record starts with.
/// u32, crc32 of the hash key, the record's position (u64), and its head from [`RECORD_LENGTH`] on.
pub const RECORD_HEAD_CRC: usize = 0;
/// u32, the same crc32, gone on with over the body up to its padded end.
pub const RECORD_CRC: usize = RECORD_HEAD_CRC + 4;
/// u32, bytes of the body.
pub const RECORD_LENGTH: usize = RECORD_CRC + 4;
/// u8, a `Kind`.
pub const RECORD_KIND: usize = RECORD_LENGTH + 4;
/// u8, bytes of the head, in units of [`ALIGNMENT`].
pub const RECORD_HEAD: usize = RECORD_KIND + 1;
/// u16, bits.
pub const RECORD_MARKS: usize = RECORD_HEAD + 1;
/// u32, the message's client flags.
pub const RECORD_FLAGS: usize = RECORD_MARKS + 2;
/// u32, for later versions.
pub const RECORD_ROOM: usize = RECORD_FLAGS + 4;
/// u64, the message's number.
pub const RECORD_SEQUENCE: usize = RECORD_ROOM + 4;
/// u64, the log was durable up to this position when the record was written.
pub const RECORD_DURABLE: usize = RECORD_SEQUENCE + 8;
/// Bytes that every head has.
pub const RECORD_COMMON: usize = RECORD_DURABLE + 8;

/// In [`RECORD_MARKS`]: more records of this one's step follow.
pub const MARK_MORE: u16 = 1;

/// The first kind of record that a reader which does not know it passes over.
pub const OPTIONAL_KINDS: u8 = 128;

// A message goes on with its times. A head may end after any of them; what it lacks is zero.
/// u64, Unix time of the push in milliseconds.
pub const MESSAGE_PUSHED_MS: usize = RECORD_COMMON;
/// u64, Unix time of expiry in milliseconds, 0 = never.
pub const MESSAGE_EXPIRES_MS: usize = MESSAGE_PUSHED_MS + 8;
/// u64, Unix time before which it is not delivered, 0 = at once.
pub const MESSAGE_DELIVER_MS: usize = MESSAGE_EXPIRES_MS + 8;
/// Fields of different kinds.
pub const MESSAGE_MORE: usize = MESSAGE_DELIVER_MS + 8;
/// The shortest head of a message.
pub const MESSAGE_HEAD: usize = MESSAGE_EXPIRES_MS;

// All others have one field more, before those of a message.
/// u64, the position of the record that this one copies, removes or describes.
pub const RECORD_ORIGIN: usize = RECORD_COMMON;
/// The shortest head of a removal, which has no body.
pub const REMOVAL_HEAD: usize = RECORD_ORIGIN + 8;
/// u64, as in a message.
pub const COPY_PUSHED_MS: usize = RECORD_ORIGIN + 8;
/// u64, as in a message.
pub const COPY_EXPIRES_MS: usize = COPY_PUSHED_MS + 8;
/// u64, as in a message.
pub const COPY_DELIVER_MS: usize = COPY_EXPIRES_MS + 8;
/// As in a message.
pub const COPY_MORE: usize = COPY_DELIVER_MS + 8;
/// The shortest head of a copy.
pub const COPY_HEAD: usize = COPY_EXPIRES_MS;

// A state says what a failure or a delay has changed of a message, and has no body.
/// u64, the position of the record that holds the message.
pub const STATE_ORIGIN: usize = RECORD_ORIGIN;
/// u64, Unix time before which the message is not delivered, 0 = at once.
pub const STATE_DELIVER_MS: usize = STATE_ORIGIN + 8;
/// Fields of different kinds; the shortest head of a state.
pub const STATE_MORE: usize = STATE_DELIVER_MS + 8;

// A field at the end of a head, as many bytes as it says, a multiple of `ALIGNMENT`.
/// u16, what it holds.
pub const FIELD_KIND: usize = 0;
/// u16, bytes of the field.
pub const FIELD_SIZE: usize = FIELD_KIND + 2;

// The field with the failures of a message.
/// Its kind.
pub const FAILURES_FIELD: u16 = 1;
/// u32, failures that count for the limit.
pub const FAILURES_ATTEMPTS: usize = FIELD_SIZE + 2;
/// u32, deliveries that were given back, or whose connection broke.
pub const FAILURES_NACKS: usize = FAILURES_ATTEMPTS + 4;
/// u32, deliveries whose lease ran out.
pub const FAILURES_EXPIRIES: usize = FAILURES_NACKS + 4;
/// u64, Unix time of the first failure in milliseconds.
pub const FAILURES_FIRST_MS: usize = FAILURES_EXPIRIES + 4;
/// u64, Unix time of the last failure in milliseconds.
pub const FAILURES_LAST_MS: usize = FAILURES_FIRST_MS + 8;
/// u8, bytes of the reason of the first failure.
pub const FAILURES_FIRST_LENGTH: usize = FAILURES_LAST_MS + 8;
/// u8, bytes of the reason of the last failure.
pub const FAILURES_LAST_LENGTH: usize = FAILURES_FIRST_LENGTH + 1;
/// The reason of the first failure, then that of the last one.
pub const FAILURES_REASONS: usize = FAILURES_LAST_LENGTH + 1;

/// The longest head.
pub const HEAD_MAX: usize = u8::MAX as usize * ALIGNMENT;

// The footer of a sealed segment, behind the segment's own bytes; all fields are u64.
/// The first eight bytes of a footer.
pub const FOOTER_MAGIC_BYTES: [u8; 8] = *b"mqfooter";
/// [`FOOTER_MAGIC_BYTES`].
pub const FOOTER_MAGIC: usize = 0;
/// The position of the segment's first byte.
pub const FOOTER_BASE: usize = FOOTER_MAGIC + 8;
/// The position after the last record.
pub const FOOTER_RECORDS_END: usize = FOOTER_BASE + 8;
/// The durable position in the first record.
pub const FOOTER_FIRST_DURABLE: usize = FOOTER_RECORDS_END + 8;
/// The highest durable position in a record.
pub const FOOTER_LAST_DURABLE: usize = FOOTER_FIRST_DURABLE + 8;
/// How many entries, of 8 bytes, a record each.
pub const FOOTER_ENTRY_COUNT: usize = FOOTER_LAST_DURABLE + 8;
/// How many runs of numbers, of 16 bytes.
pub const FOOTER_RUN_COUNT: usize = FOOTER_ENTRY_COUNT + 8;
/// How many origins, of 16 bytes, one a copy, removal or state.
pub const FOOTER_ORIGIN_COUNT: usize = FOOTER_RUN_COUNT + 8;
/// The entries; after them the runs, the origins and the crc32 of all before it, as a u64.
pub const FOOTER_ENTRIES: usize = FOOTER_ORIGIN_COUNT + 8;

// The settings of a queue, a file of one sector; this version reads what begins as a segment header
// does, up to the crc32.
/// The first eight bytes of a settings file.
pub const SETTINGS_MAGIC_BYTES: [u8; 8] = *b"mqsettng";
/// [`SETTINGS_MAGIC_BYTES`].
pub const SETTINGS_MAGIC: usize = SEGMENT_MAGIC;
/// u16, the oldest version whose reader suffices.
pub const SETTINGS_READER: usize = SEGMENT_READER;
/// u16, the version that wrote it.
pub const SETTINGS_WRITER: usize = SEGMENT_WRITER;
/// u32, crc32 of the whole sector with this field taken as zero.
pub const SETTINGS_CRC: usize = SEGMENT_CRC;
/// u8, bits: nothing is pushed, nothing is delivered.
pub const SETTINGS_PAUSED: usize = SETTINGS_CRC + 4;
/// u8, the end that is fed.
pub const SETTINGS_DIRECTION: usize = SETTINGS_PAUSED + 1;
/// 6 bytes, for later versions.
pub const SETTINGS_ROOM: usize = SETTINGS_DIRECTION + 1;
/// u64, the most messages, 0 = no limit of its own.
pub const SETTINGS_LENGTH_MAX: usize = SETTINGS_ROOM + 6;
/// 24 bytes, for later versions.
pub const SETTINGS_MORE: usize = SETTINGS_LENGTH_MAX + 8;
/// u32, the length of the queue's name in bytes.
pub const SETTINGS_NAME_LENGTH: usize = SEGMENT_NAME_LENGTH;
/// The queue's name.
pub const SETTINGS_NAME: usize = SEGMENT_NAME;

const _: () = assert!(FOOTER_ENTRIES == 64);
const _: () = assert!(STATE_MORE == 56 && FAILURES_REASONS == 34);
const _: () = assert!(SETTINGS_MORE == 32 && SETTINGS_MORE + 24 == SETTINGS_NAME_LENGTH);
const _: () = assert!(NAME_MAX == 452);
const _: () = assert!(SLOT_SIZE == 72 && SLOT_SIZE <= SECTOR);
const _: () = assert!(RECORDS == 2560);
const _: () = assert!(RECORD_COMMON == 40 && MESSAGE_MORE == 64 && COPY_MORE == 72);
const _: () = assert!(MESSAGE_HEAD == 48 && REMOVAL_HEAD == 48 && COPY_HEAD == 56);
const _: () = assert!(RECORDS.is_multiple_of(ALIGNMENT) && RECORD_COMMON.is_multiple_of(ALIGNMENT));

/// Reads a u16 at `offset`; the bytes beyond the end of `bytes` count as zero.
pub fn get_u16(bytes: &[u8], offset: usize) -> u16 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk::<2>());
    field.map_or(0, |field| u16::from_le_bytes(*field))
}

/// Reads a u32 at `offset`; the bytes beyond the end of `bytes` count as zero.
pub fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    field.map_or(0, |field| u32::from_le_bytes(*field))
}

/// Reads a u64 at `offset`; the bytes beyond the end of `bytes` count as zero.
pub fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk::<8>());
    field.map_or(0, |field| u64::from_le_bytes(*field))
}

/// Writes `value` at `offset`, which lies in `bytes`.
pub fn put_u16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

/// Writes `value` at `offset`, which lies in `bytes`.
pub fn put_u32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes `value` at `offset`, which lies in `bytes`.
pub fn put_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}
