#!/usr/bin/env python3
"""Lists the live messages of a data directory, by storage-format.md and nothing else.

It never writes, and shares no code with the daemon: where the two disagree, the page or the
daemon is wrong. The rules that it names are the page's. One line for each live message, in the
order of delivery: queue, number, client flags, time of expiry and body, separated by tabs; bytes
as %XX. Queues of a newer format are named at the end, and the exit status is 1 then.

usage: read_log.py DIRECTORY
"""

import os
import re
import struct
import sys
import zlib
from collections import namedtuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

SECTOR, RECORDS, SLOT_COUNT, ALIGNMENT = 512, 2560, 4, 8
LIMIT = 1 << 62
MESSAGE, REMOVAL, COPY = 1, 2, 3
HEADS = {MESSAGE: 48, REMOVAL: 48, COPY: 56}
OLD_HEADS = {MESSAGE: 56, REMOVAL: 40, COPY: 64}
MORE = 1

Cursor = namedtuple("Cursor", "generation base offset head durable oldest")
Record = namedtuple("Record", "kind flags number durable expires body size more")
Footer = namedtuple("Footer", "durable told")


class NewerFormat(Exception):
    """The queue is not read (F9, F13, F19, F26, F45)."""


def up(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


class Segment:
    """One file: what its header, its slots and its footer say, and the bytes of its records."""

    def __init__(self, path):
        self.base = int(os.path.basename(path)[:20])
        with open(path, "rb") as file:
            self.data = file.read()
        self.name = self.version = self.key = self.footer = None
        if self.is_intact():
            length, size = self.u32(56), self.u64(24)
            self.name = self.data[60 : 60 + length]
            self.version, self.key = self.u16(8), self.data[40:56]
            self.data, behind = self.data[:size], self.data[size:]
            self.footer = self.read_footer(behind)
        elif self.slots(2):
            offset = self.slots(2)[0].offset
            self.key, self.version = self.data[offset + 48 : offset + 64], self.u16(offset + 64)
            if self.version > 2:
                raise NewerFormat(path)
        elif self.slots(1):
            self.version = 1

    def u16(self, offset):
        return struct.unpack_from("<H", self.data, offset)[0]

    def u32(self, offset):
        return struct.unpack_from("<I", self.data, offset)[0]

    def u64(self, offset):
        return struct.unpack_from("<Q", self.data, offset)[0]

    def is_intact(self):
        """F9 and F10."""
        sector = self.data[:SECTOR]
        if len(sector) < SECTOR or sector[:8] != b"mqsegmnt":
            return False
        if zlib.crc32(sector[:12] + bytes(4) + sector[16:]) != self.u32(12):
            return False
        if self.u16(8) not in (1, 2):
            raise NewerFormat(self.base)
        is_here = self.u64(16) == self.base and RECORDS <= self.u64(24) <= LIMIT
        return self.u32(56) <= 452 and is_here

    def slots(self, version):
        """The valid slots, as of a segment of this version (F11)."""
        crc = 48 if version == 1 else 68
        valid = []
        for offset in range(SECTOR, SECTOR + SLOT_COUNT * SECTOR, SECTOR):
            slot = self.data[offset : offset + crc + 4]
            if len(slot) < crc + 4 or zlib.crc32(slot[:crc]) != self.u32(offset + crc):
                continue
            generation, head, following, durable, oldest, base = struct.unpack_from("<6Q", slot)
            if base == self.base >= oldest and max(generation, head, following, durable) <= LIMIT:
                valid.append(Cursor(generation, base, offset, head, durable, oldest))
        return valid

    def cursors(self):
        return self.slots(self.version) if self.version else []

    def is_unborn(self):
        return self.name is None and not any(self.data)

    def read_footer(self, behind):
        """What a valid footer says (F23): the highest durable, and the records in their order."""
        size = self.u64(24)
        if not 72 <= len(behind) <= size or len(behind) % 8 or behind[:8] != b"mqfooter":
            return None
        words = struct.unpack(f"<{len(behind) // 8}Q", behind)
        _magic, base, end, first, last, entry_count, run_count, origin_count = words[:8]
        if base != self.base or words[-1] != zlib.crc32(behind[:-8]):
            return None
        entries = words[8:-1][:entry_count]
        pairs = list(zip(*[iter(words[8:-1][entry_count:])] * 2))
        runs, origins = pairs[:run_count], pairs[run_count:][:origin_count]
        if any(number + count > LIMIT for number, count in runs):
            return None
        if any(number >= LIMIT for number, _origin in origins):
            return None
        numbers = (number for start, count in runs for number in range(start, start + count))
        moved = iter(origins)
        told, position = [], base + RECORDS
        for entry in entries:
            kind = entry & 15
            if kind not in HEADS:
                return None
            number = next(numbers, None) if kind == MESSAGE else next(moved, (None, None))[0]
            if number is None:
                break
            told.append((position, kind, number))
            position += (entry >> 4 & (1 << 28) - 1) * ALIGNMENT
        if position != end or end > base + size:
            return None
        return Footer(max(first, last), told)

    def claimed(self, offset):
        """Kind, head and body length where they are possible ones, without a checksum."""
        if self.version == 1:
            if offset + 32 > len(self.data):
                return None
            length, kind = self.u32(offset + 4), self.data[offset + 8]
            head, shortest = OLD_HEADS.get(kind), 0
            if head is None or self.u64(offset + 16) >= LIMIT:
                return None
        else:
            if offset + 40 > len(self.data):
                return None
            length, kind, head = self.u32(offset + 8), self.data[offset + 12], self.data[offset + 13]
            head, shortest = head * ALIGNMENT, HEADS.get(kind, 40)
            if kind == 0:
                return None
        size = up(head + length)
        if head < shortest or offset + size > len(self.data) or (kind == REMOVAL and length):
            return None
        return kind, head, length, size

    def head_crc(self, offset, head):
        """The crc32 of a head of version 2."""
        seed = zlib.crc32(self.key + struct.pack("<Q", self.base + offset))
        return zlib.crc32(self.data[offset + 8 : offset + head], seed)

    def whole(self, offset):
        """The whole record at an offset, or None (F18, F19, F42)."""
        claimed = self.claimed(offset)
        if claimed is None:
            return None
        kind, head, length, size = claimed
        body = self.data[offset + head : offset + head + length]
        if self.version == 1:
            crc = zlib.crc32(struct.pack("<Q", self.base + offset))
            if zlib.crc32(self.data[offset + 4 : offset + size], crc) != self.u32(offset):
                return None
            flags, number, durable = struct.unpack_from("<IQQ", self.data, offset + 12)
            expires = 0 if kind == REMOVAL else self.u64(offset + 40)
            return Record(kind, flags, number, durable, expires, body, size, False)
        crc = self.head_crc(offset, head)
        if crc != self.u32(offset):
            return None
        if zlib.crc32(self.data[offset + head : offset + size], crc) != self.u32(offset + 4):
            return None
        if 4 <= kind < 128:
            raise NewerFormat(self.base)
        flags, number, durable = self.u32(offset + 16), self.u64(offset + 24), self.u64(offset + 32)
        expires = 0
        if kind in (MESSAGE, COPY):
            pushed = offset + HEADS[kind] - 8
            times = range(pushed + 8, min(offset + head, pushed + 24), 8)
            # A head up to its times ends behind the last that is not zero (F17).
            if times and offset + head <= pushed + 24 and self.u64(times[-1]) == 0:
                return None
            expires = self.u64(times[0]) if times else 0
        if kind < 128 and number >= LIMIT:
            return None
        more = bool(self.u16(offset + 14) & MORE)
        return Record(kind, flags, number, durable, expires, body, size, more)

    def after_bad(self, offset, last_number):
        """Where whole records go on behind a bad place, or None (F39, F43)."""
        bad = self.claimed(offset)
        start = offset + ALIGNMENT
        if self.version == 1 and bad and last_number is not None:
            following = self.whole(offset + bad[3])
            if following and following.kind == MESSAGE and following.number <= last_number + 2:
                return offset + bad[3]
        elif self.version == 2 and bad and self.head_crc(offset, bad[1]) == self.u32(offset):
            start = offset + bad[3]
        offsets = range(start, len(self.data), ALIGNMENT)
        return next((other for other in offsets if self.whole(other)), None)

    def records(self, offset, last_number=None):
        """Offsets with whole records, or with None at bad places, reading on behind these."""
        while offset is not None and any(self.data[offset:]):
            record = self.whole(offset)
            yield offset, record
            if record:
                last_number = record.number if record.kind == MESSAGE else last_number
                offset += record.size
            else:
                offset, last_number = self.after_bad(offset, last_number), None

    def has_records(self):
        return bool(self.footer) or any(record for _, record in self.records(RECORDS))


def give_versions(segments):
    """F14."""
    keys = [segment.key for segment in segments if segment.key is not None]
    version = 1
    for segment in segments:
        if segment.version is None:
            segment.key, segment.version = keys[-1] if keys else bytes(16), 1
            if version == 2 or not segment.whole(RECORDS):
                segment.version = 2
        else:
            version = segment.version


def is_rotten(segments, index, offset, durable):
    """F37, of a bad place."""
    segment, newer = segments[index], segments[index + 1 :]
    position = segment.base + offset
    if durable > position or any(other.cursors() for other in newer):
        return True
    behind = segment.records(segment.after_bad(offset, None))
    if any(record and record.durable > position for _, record in behind):
        return True
    return any(other.has_records() for other in newer)


class Table:
    """The table of F25."""

    def __init__(self, head):
        self.head, self.live, self.rising_to = head, {}, 0

    def apply(self, record, version):
        if record.kind == MESSAGE and version == 2:
            if record.number < self.rising_to:
                raise NewerFormat(record.number)
            self.rising_to = record.number + 1
        if record.kind == REMOVAL:
            self.live.pop(record.number, None)
        elif record.kind in (MESSAGE, COPY) and record.number >= self.head:
            self.live[record.number] = (record.flags, record.expires, record.body)

    def lose(self, told, start, end):
        """What a footer tells of between two positions that are bad (F24)."""
        for position, kind, number in told:
            if start <= position < end and kind != MESSAGE:
                self.live.pop(number, None)


def live_messages(segments):
    """Numbers to (flags, expiry, body)."""
    segments = [segment for segment in segments if not segment.is_unborn()]
    for segment, following in zip(segments, segments[1:]):
        if segment.name is None:
            segment.data = segment.data[: following.base - segment.base]
    cursors = [cursor for segment in segments for cursor in segment.cursors()]
    cursor = max(cursors, default=Cursor(0, 0, 0, 1, 0, 0))
    segments = [segment for segment in segments if segment.base >= cursor.oldest]
    give_versions(segments)
    table, durable = Table(cursor.head), cursor.durable
    for index, segment in enumerate(segments):
        steps = read_segment(segments, index, table, durable)
        durable = max(durable, steps[1], segment.footer.durable if segment.footer else 0)
        if not steps[0]:
            break
    return table.live


def read_segment(segments, index, table, durable):
    """Applies a segment's records; whether the log goes on, and the highest durable."""
    segment, unfinished, began = segments[index], [], None
    footer = segment.footer
    durable = max(durable, footer.durable if footer else 0)
    told = footer.told if footer else []
    offsets = list(segment.records(RECORDS))
    for (offset, record), following in zip(offsets, offsets[1:] + [(None, None)]):
        position = segment.base + offset
        if record is None:
            if not footer and not is_rotten(segments, index, offset, durable):
                return False, durable
            for kept in unfinished:
                table.apply(kept, segment.version)
            unfinished = []
            end = segment.base + following[0] if following[0] is not None else LIMIT
            table.lose(told, position, end)
            continue
        durable = max(durable, record.durable)
        began = began if unfinished else position
        unfinished.append(record)
        if not record.more or footer:
            for kept in unfinished:
                table.apply(kept, segment.version)
            unfinished = []
    if unfinished and began >= durable:
        return False, durable
    for kept in unfinished:
        table.apply(kept, segment.version)
    # What a footer tells of behind the last bytes that are not zero.
    last = offsets[-1] if offsets else (RECORDS, None)
    end = segment.base + last[0] + (last[1].size if last[1] else 0)
    table.lose(told, end, LIMIT)
    return True, durable


def check_settings(folder):
    """F45."""
    path = os.path.join(folder, "queue.settings")
    if not os.path.isfile(path) or os.path.islink(path):
        return
    with open(path, "rb") as file:
        sector = file.read(SECTOR + 1)
    if len(sector) == SECTOR and sector[:8] == b"mqsettng":
        crc, reader = struct.unpack_from("<I", sector, 12)[0], struct.unpack_from("<H", sector, 8)[0]
        if zlib.crc32(sector[:12] + bytes(4) + sector[16:]) == crc and reader not in (1, 2):
            raise NewerFormat(path)


def read_queue(path):
    """The name that the headers say last, and the live messages; None: there is no segment."""
    files = (file for file in os.listdir(path) if re.fullmatch(r"[0-9]{20}\.seg", file))
    files = [file for file in files if int(file[:20]) % 8 == 0 and int(file[:20]) <= LIMIT]
    if not files:
        return None, None
    check_settings(path)
    segments = [Segment(os.path.join(path, file)) for file in sorted(files)]
    names = [segment.name for segment in segments if segment.name is not None]
    return (names or [None])[-1], live_messages(segments)


def each_queue(directory):
    """Names and live messages (F4); None: the queue is of a newer format."""
    for folder in sorted(os.listdir(directory)):
        path = os.path.join(directory, folder)
        if not folder.startswith("q-") or not os.path.isdir(path):
            continue
        name = unquote_to_bytes(folder[2:])
        if "~" not in folder and encoded(name) != folder[2:]:
            continue
        try:
            said, live = read_queue(path)
        except NewerFormat:
            yield (os.fsencode(folder) if "~" in folder else name), None
            continue
        if live is not None:
            yield ((said or os.fsencode(folder)) if "~" in folder else name), live


def encoded(name):
    """Everything but letters, digits, - and _ as %XX."""
    return quote_from_bytes(name, safe="").replace(".", "%2E").replace("~", "%7E")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    newer = []
    for name, live in each_queue(sys.argv[1]):
        if live is None:
            newer.append(encoded(name))
            continue
        for number, (flags, expires, body) in sorted(live.items()):
            print(encoded(name), number, flags, expires, encoded(body), sep="\t")
    if newer:
        sys.exit("of a newer format: " + " ".join(newer))


if __name__ == "__main__":
    main()
