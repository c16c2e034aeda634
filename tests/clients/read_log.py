#!/usr/bin/env python3
"""Lists the live messages of a data directory, by storage-format.md and nothing else.

It never writes, and shares no code with the daemon: where the two disagree, the page or the
daemon is wrong. One line for each live message, in the order of delivery:
queue, number, client flags, time of expiry and body, separated by tabs; bytes as %XX.

usage: read_log.py DIRECTORY
"""

import os
import re
import struct
import sys
import zlib
from urllib.parse import quote_from_bytes, unquote_to_bytes

SECTOR, RECORDS, SLOT_COUNT = 512, 2560, 4
SEQUENCE_END = 1 << 62
HEADER_SIZES = {1: 56, 2: 40, 3: 64}  # bytes before the body, by kind
MESSAGE, REMOVAL, COPY = 1, 2, 3


class Segment:
    """One file: its bytes, what its header says, its cursor."""

    def __init__(self, path):
        self.base = int(os.path.basename(path)[:20])
        with open(path, "rb") as file:
            self.data = file.read()
        self.name, self.has_footer = None, False
        sector = self.data[:SECTOR]
        unsigned = sector[:12] + bytes(4) + sector[16:]
        if len(sector) == SECTOR and sector[:8] == b"mqsegmnt":
            version, crc, base, size = struct.unpack_from("<IIQQ", sector, 8)
            name_length = struct.unpack_from("<I", sector, 56)[0]
            if crc == zlib.crc32(unsigned) and name_length <= 452:
                if version != 1:
                    raise SystemExit(f"{path}: version {version}")
                if base == self.base and RECORDS <= size <= 1 << 62:
                    self.name = sector[60 : 60 + name_length]
                    self.data, footer = self.data[:size], self.data[size:]
                    crc = footer[-8:] == zlib.crc32(footer[:-8]).to_bytes(8, "little")
                    self.has_footer = footer[:8] == b"mqfooter" and crc
        slots = (self.slot(SECTOR + index * SECTOR) for index in range(SLOT_COUNT))
        self.cursor = max((slot for slot in slots if slot), default=None)

    def slot(self, offset):
        """Generation, head, durable and oldest; None: not valid."""
        slot = self.data[offset : offset + 52]
        if len(slot) < 52:
            return None
        generation, head, following, durable, oldest, base, crc = struct.unpack("<6QI", slot)
        if crc != zlib.crc32(slot[:48]) or base != self.base:
            return None
        if max(generation, head, following) > SEQUENCE_END:
            return None
        return generation, head, durable, oldest

    def unborn(self):
        return self.name is None and not any(self.data)

    def claimed(self, offset):
        """Kind, flags, number, durable, expiry, body and size that bytes claim, if possible."""
        if offset + 32 > len(self.data):
            return None
        length, kind, flags, number, durable = struct.unpack_from("<IIIQQ", self.data, offset + 4)
        kind &= 0xFF
        header = HEADER_SIZES.get(kind)
        size = header and -(-(header + length) // 8) * 8
        if not header or offset + size > len(self.data) or (kind == REMOVAL and length):
            return None
        if number >= SEQUENCE_END:
            return None
        expires = 0 if kind == REMOVAL else struct.unpack_from("<Q", self.data, offset + 40)[0]
        body = self.data[offset + header : offset + header + length]
        return kind, flags, number, durable, expires, body, size

    def whole(self, offset):
        """As `claimed`, if the checksum is right too."""
        record = self.claimed(offset)
        if record:
            position = struct.pack("<Q", self.base + offset)
            crc = zlib.crc32(position + self.data[offset + 4 : offset + record[-1]])
            if crc == struct.unpack_from("<I", self.data, offset)[0]:
                return record
        return None

    def has_records(self):
        """Whether there is a whole record, or a footer."""
        offsets = range(RECORDS, len(self.data), 8)
        return self.has_footer or any(self.whole(offset) for offset in offsets)

    def after_bad(self, offset, last_number):
        """Where whole records go on behind a bad place; None: nowhere."""
        bad = self.claimed(offset)
        if bad and last_number is not None:
            following = self.whole(offset + bad[-1])
            if following and following[0] == MESSAGE and following[2] <= last_number + 2:
                return offset + bad[-1]
        candidates = range(offset + 8, len(self.data), 8)
        return next((other for other in candidates if self.whole(other)), None)


def is_rotten(segments, index, offset, resumes, durable):
    segment = segments[index]
    position = segment.base + offset
    if durable > position or any(newer.cursor for newer in segments[index + 1 :]):
        return True
    while resumes is not None:
        record = segment.whole(resumes)
        if record and record[3] > position:
            return True
        resumes = resumes + record[-1] if record else segment.after_bad(resumes, None)
    return any(newer.has_records() for newer in segments[index + 1 :])


def live_messages(segments):
    """Numbers to (flags, expiry, body)."""
    segments = [segment for segment in segments if not segment.unborn()]
    for segment, following in zip(segments, segments[1:]):
        if segment.name is None:
            # Nothing else says where it ends.
            segment.data = segment.data[: following.base - segment.base]
    cursors = (segment.cursor for segment in segments if segment.cursor)
    _generation, head, durable, oldest = max(cursors, default=(0, 1, 0, 0))
    segments = [segment for segment in segments if segment.base >= oldest]
    live = {}
    for index, segment in enumerate(segments):
        offset, last_number = RECORDS, None
        while offset is not None and any(segment.data[offset:]):
            record = segment.whole(offset)
            if not record:
                resumes = segment.after_bad(offset, last_number)
                if not is_rotten(segments, index, offset, resumes, durable):
                    return live
                offset, last_number = resumes, None
                continue
            kind, flags, number, known_durable, expires, body, size = record
            durable = max(durable, known_durable)
            if kind == MESSAGE:
                last_number = number
            if kind == REMOVAL:
                live.pop(number, None)
            elif number >= head:
                live[number] = (flags, expires, body)
            offset += size
    return live


def queues(directory):
    """Names and segments."""
    for folder in sorted(os.listdir(directory)):
        path = os.path.join(directory, folder)
        if not folder.startswith("q-") or not os.path.isdir(path):
            continue
        name = unquote_to_bytes(folder[2:])
        files = sorted(file for file in os.listdir(path) if re.fullmatch(r"\d{20}\.seg", file))
        segments = [Segment(os.path.join(path, file)) for file in files]
        if "~" in folder:
            names = [segment.name for segment in segments if segment.name is not None]
            name = names[-1] if names else os.fsencode(folder)
        elif encoded(name) != folder[2:]:
            continue
        yield name, segments


def encoded(name):
    """Everything but letters, digits, - and _ as %XX."""
    return quote_from_bytes(name, safe="").replace(".", "%2E").replace("~", "%7E")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, segments in queues(sys.argv[1]):
        for number, (flags, expires, body) in sorted(live_messages(segments).items()):
            print(encoded(name), number, flags, expires, encoded(body), sep="\t")


if __name__ == "__main__":
    main()
