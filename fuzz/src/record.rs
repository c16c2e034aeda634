//! What lies in a segment's file: whatever its bytes say is read without harm, and what is read
//! can be written and is read again.
//!
//! No fuzzer guesses a checksum, so it is put right where it is the only thing that is wrong. An
//! input is the position that the bytes are read at, in eight bytes, and the bytes.

use mq::storage::format::*;

/// Holds for every input, or panics.
pub fn check(input: &[u8]) {
    let Some((position, bytes)) = input.split_first_chunk() else { return };
    let position = u64::from_le_bytes(*position);
    for version in [Version::One, Version::Two] {
        let codec = Codec::new(version, *b"0123456789abcdef");
        check_record(&codec, position, bytes.to_vec());
        check_cursor(&codec, position, bytes);
    }
    check_header(position, bytes.to_vec());
    check_footer(position, bytes.to_vec());
}

fn check_record(codec: &Codec, position: u64, mut bytes: Vec<u8>) {
    // Version 1 has one checksum, version 2 that of the head and then one of all.
    for offset in [RECORD_HEAD_CRC, RECORD_CRC] {
        if let Verdict::Bad(Fault::Checksum { expected, found }) = codec.decode(&bytes, position) {
            assert_ne!(expected, found);
            put_u32(&mut bytes, offset, found);
        }
    }
    let verdict = codec.decode(&bytes, position);
    assert!(!matches!(verdict, Verdict::Bad(Fault::Checksum { .. })), "with its checksums");
    match verdict {
        Verdict::Whole(record) => check_whole(codec, position, record),
        Verdict::Blank => {
            let common = if codec.version() == Version::One { 32 } else { RECORD_COMMON };
            assert!(bytes.iter().take(common).all(|byte| *byte == 0), "blank is zero");
        }
        Verdict::Bad(fault) => drop((fault.expected(), fault.found())),
    }
}

/// A record survives being written elsewhere, and no flipped bit of it passes.
fn check_whole(codec: &Codec, position: u64, record: Record<'_>) {
    assert!(record.message().body == record.body && record.size().is_multiple_of(ALIGNMENT));
    let mut written = vec![0; record.size()];
    codec.encode(&record, position, &mut written);
    assert_eq!(codec.decode(&written, position), Verdict::Whole(record), "what is written is read");
    let elsewhere = codec.decode(&written, position ^ ALIGNMENT as u64);
    assert!(matches!(elsewhere, Verdict::Bad(_)), "a record elsewhere");
    let stranger = Codec::new(codec.version(), [0; 16]).decode(&written, position);
    let is_seeded = codec.version() != Version::One;
    assert_eq!(matches!(stranger, Verdict::Bad(_)), is_seeded, "the record of another key");
    // A length, head or kind that is changed moves the end, and then one in 2^32 passes.
    let bit = 8 * RECORD_FLAGS + position as usize % (8 * (written.len() - RECORD_FLAGS));
    written[bit / 8] ^= 1 << (bit % 8);
    assert!(!matches!(codec.decode(&written, position), Verdict::Whole(_)), "flipped bit {bit}");
}

fn check_header(base: u64, mut sector: Vec<u8>) {
    if sector.len() >= SECTOR {
        sector[SEGMENT_MAGIC..SEGMENT_READER].copy_from_slice(&MAGIC);
        put_u64(&mut sector, SEGMENT_BASE, base);
        put_u32(&mut sector, SEGMENT_CRC, 0);
        let crc = crc32fast::hash(&sector[..SECTOR]);
        put_u32(&mut sector, SEGMENT_CRC, crc);
    }
    if let Ok((header, size)) = SegmentHeader::decode(base, &sector) {
        assert!(size >= RECORDS as u64 && size <= POSITION_MAX, "{size} bytes");
        let mut written = vec![0; SECTOR];
        header.encode(base, size, &mut written);
        assert_eq!(SegmentHeader::decode(base, &written), Ok((header, size)));
    }
}

fn check_cursor(codec: &Codec, base: u64, bytes: &[u8]) {
    let version = codec.version();
    assert!(Cursor::newest(base, version, bytes).is_none_or(|(slot, _)| slot < SLOT_COUNT));
    let Some(slot) = bytes.get(..slot_size(version)) else { return };
    let mut slot = slot.to_vec();
    let crc_offset = slot.len() - 4;
    put_u64(&mut slot, SLOT_BASE, base);
    if version != Version::One {
        slot[SLOT_HASH_KEY..SLOT_READER].copy_from_slice(codec.key());
        version.write(&mut slot, SLOT_READER);
    }
    let crc = crc32fast::hash(&slot[..crc_offset]);
    put_u32(&mut slot, crc_offset, crc);
    let numbers = [SLOT_GENERATION, SLOT_HEAD, SLOT_NEXT_SEQUENCE, SLOT_DURABLE];
    let is_low = numbers.iter().all(|number| get_u64(&slot, *number) <= SEQUENCE_END);
    let is_possible = is_low && get_u64(&slot, SLOT_OLDEST) <= base;
    let cursor = Cursor::decode(base, version, &slot);
    assert_eq!(cursor.is_some(), is_possible, "its checksum is right");
    let Some(cursor) = cursor else { return };
    let mut written = vec![0; slot.len()];
    cursor.encode(base, codec, &mut written);
    assert_eq!(written, slot);
}

fn check_footer(base: u64, mut bytes: Vec<u8>) {
    if let Some((rest, crc)) = bytes.split_last_chunk_mut::<8>()
        && rest.len() >= FOOTER_ENTRIES
    {
        rest[FOOTER_MAGIC..FOOTER_BASE].copy_from_slice(&FOOTER_MAGIC_BYTES);
        put_u64(rest, FOOTER_BASE, base);
        *crc = u64::from(crc32fast::hash(rest)).to_le_bytes();
    }
    let Ok(Some(footer)) = Footer::decode(base, &bytes) else { return };
    let written = footer.encode(base).expect("memory");
    let read = Footer::decode(base, &written).expect("memory").expect("what is written is read");
    assert_eq!(read, footer);
    let start = base % POSITION_MAX;
    assert!(read.summaries(start).eq(footer.summaries(start)));
    assert!(footer.summaries(start).count() <= bytes.len() / 8, "no more than there are bytes");
}
