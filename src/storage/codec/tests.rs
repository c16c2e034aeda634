//! What is written is read, and nothing else is.

use super::*;

const KEY: HashKey = *b"0123456789abcdef";

fn codecs() -> [Codec; 2] {
    [Codec::new(Version::One, KEY), Codec::new(Version::Two, KEY)]
}

fn sample(version: Version, kind: Kind, body: &[u8]) -> Record<'_> {
    let is_message = kind.holds_message();
    Record {
        version,
        kind,
        flags: 7,
        sequence: 42,
        durable: 4096,
        pushed_ms: if is_message { 1_700_000_000_000 } else { 0 },
        origin: if kind == Kind::Copy || kind.is_bare() { 2560 } else { 0 },
        body,
        ..Record::default()
    }
}

/// Records of a version, of every kind and length of head.
fn samples(version: Version) -> Vec<Record<'static>> {
    let message = sample(version, Kind::Message, b"hello");
    let copy = sample(version, Kind::Copy, b"12345678");
    let mut samples = vec![
        message,
        sample(version, Kind::Message, b""),
        copy,
        sample(version, Kind::Removal, b""),
        Record { expires_ms: 5, ..message },
        Record { deliver_ms: 5, ..copy },
    ];
    if version == Version::Two {
        samples.push(sample(version, Kind::Other(200), b"of a later version"));
        samples.push(Record { marks: 0x8001, room: 9, more: &[1; 16], ..message });
        samples.push(Record { more: &[1; 8], ..copy });
        samples.push(Record { more: &[1; 8], ..sample(version, Kind::Removal, b"") });
        let state = sample(version, Kind::State, b"");
        samples.push(state);
        samples.push(Record { deliver_ms: 5, more: &[1; 40], ..state });
    }
    samples
}

fn each(mut check: impl FnMut(&Codec, Record<'static>, Vec<u8>)) {
    for codec in codecs() {
        for record in samples(codec.version()) {
            let mut bytes = vec![0; record.size()];
            assert_eq!(codec.encode(&record, 10_000, &mut bytes), record.size());
            check(&codec, record, bytes);
        }
    }
}

#[test]
fn what_is_written_is_read() {
    each(|codec, record, mut bytes| {
        bytes.extend([0; 64]);
        assert_eq!(codec.decode(&bytes, 10_000), Verdict::Whole(record));
        assert_eq!(codec.reread(&bytes), Verdict::Whole(record));
    });
}

#[test]
fn a_record_at_another_position_does_not_pass() {
    each(|codec, _, bytes| {
        assert!(matches!(codec.decode(&bytes, 10_008), Verdict::Bad(Fault::Checksum { .. })));
    });
}

#[test]
fn a_record_of_another_key_does_not_pass() {
    let other = Codec::new(Version::Two, [9; 16]);
    each(|codec, _, bytes| {
        if codec.version() == Version::Two {
            assert!(matches!(other.decode(&bytes, 10_000), Verdict::Bad(Fault::Checksum { .. })));
            assert_eq!(other.extent(&bytes, 10_000), None);
        }
    });
}

#[test]
fn every_flipped_bit_is_noticed() {
    each(|codec, _, mut bytes| {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(codec.decode(&bytes, 10_000), Verdict::Bad(_)), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    });
}

#[test]
fn a_damaged_body_still_says_where_it_ends() {
    each(|codec, record, mut bytes| {
        if codec.version() == Version::Two && !record.body.is_empty() {
            bytes[record.head_size()] ^= 1;
            assert!(matches!(codec.decode(&bytes, 10_000), Verdict::Bad(_)));
            assert_eq!(codec.extent(&bytes, 10_000), Some(record.size()));
        }
    });
}

#[test]
fn every_cut_is_noticed_and_none_panics() {
    each(|codec, _, bytes| {
        for length in 0..bytes.len() {
            let verdict = codec.decode(&bytes[..length], 10_000);
            let starts_with_zeros = bytes[..length].iter().all(|byte| *byte == 0);
            assert_eq!(matches!(verdict, Verdict::Blank), starts_with_zeros, "{length}");
            assert!(!matches!(verdict, Verdict::Whole(_)), "{length}");
        }
    });
}

#[test]
fn zeros_are_the_end_of_the_log() {
    for codec in codecs() {
        for length in [100, 5, 0] {
            assert_eq!(codec.decode(&vec![0; length], 2560), Verdict::Blank);
        }
    }
}

#[test]
fn a_length_of_four_gibibytes_is_a_fault_and_no_overflow() {
    each(|codec, _, mut bytes| {
        let offset = if codec.version() == Version::One { 4 } else { RECORD_LENGTH };
        put_u32(&mut bytes, offset, u32::MAX);
        assert_eq!(codec.decode(&bytes, 0), Verdict::Bad(Fault::Length(u32::MAX)));
    });
}

#[test]
fn a_whole_record_of_an_unknown_kind_is_of_a_newer_format() {
    let [_, codec] = codecs();
    let record = sample(Version::Two, Kind::Other(200), b"body");
    for kind in [5, 127] {
        let mut bytes = vec![0; record.size()];
        let head = record.head_size();
        put_fields(&record, head, &mut bytes);
        bytes[RECORD_KIND] = kind;
        assert!(matches!(codec.decode(&bytes, 0), Verdict::Bad(Fault::Checksum { .. })));
        codec.put_checksums(0, head, &mut bytes);
        assert_eq!(codec.decode(&bytes, 0), Verdict::Bad(Fault::Newer(kind)));
    }
}

/// What a later version counts in a record that can be passed over is its own affair.
#[test]
fn only_records_of_known_kinds_have_numbers() {
    let [_, codec] = codecs();
    let number = SEQUENCE_END;
    let known = [Kind::Message, Kind::Removal, Kind::Copy, Kind::State];
    for kind in known.into_iter().chain([Kind::Other(128), Kind::Other(255)]) {
        let record = Record { sequence: number, ..sample(Version::Two, kind, b"") };
        let mut bytes = vec![0; record.size()];
        codec.encode(&record, 0, &mut bytes);
        let expected = match kind {
            Kind::Other(_) => Verdict::Whole(record),
            _ => Verdict::Bad(Fault::Sequence(number)),
        };
        assert_eq!(codec.decode(&bytes, 0), expected);
    }
}

#[test]
fn the_last_record_of_a_step_is_marked_as_that() {
    let [_, codec] = codecs();
    let record = Record { marks: MARK_MORE, ..sample(Version::Two, Kind::Message, b"body") };
    let mut bytes = vec![0; record.size()];
    codec.encode(&record, 800, &mut bytes);
    codec.end_step(800, &mut bytes);
    assert_eq!(codec.decode(&bytes, 800), Verdict::Whole(Record { marks: 0, ..record }));
}
