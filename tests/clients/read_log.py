#!/usr/bin/env python3
"""Lists the live messages of a data directory, as storage-format.md says.

This is an independent reader: it was written from that page alone, without a look at the code of
the daemon. F22 and the like are the rules there. It wants a directory that no daemon uses, writes
nothing to it, and needs nothing but Python.

It prints a line for each message, with tabs between the queue's name, the number, the client
flags, the time of expiry (0: never), how often it has failed and the body; name and body are
percent-encoded. For a queue that is not read, standard error gets the folder and the reason, and
the exit code is 1.

usage: read_log.py DIRECTORY
"""

import os
import re
import stat
import sys
from itertools import accumulate
from struct import unpack_from
from types import SimpleNamespace
from urllib.parse import quote
from zlib import crc32

SECTOR, SLOTS, RECORDS = 512, 512, 2560
LIMIT = 1 << 62  # POSITION_MAX and SEQUENCE_END
NAME_MAX = 452
MESSAGE, REMOVAL, COPY, STATE, OPTIONAL_KINDS = 1, 2, 3, 4, 128
FAILURES_FIELD, FAILURES_REASONS = 1, 34
VERSIONS = 1, 2


class Refused(Exception):
    """A queue that is not read: the label of the recovery table, and where."""


def is_zero(data):
    return not data.strip(b"\0")


def padded(length):
    return (length + 7) // 8 * 8


def possible(durable):
    """What was durable: no position is above the limit, so more than that says nothing (F1)."""
    return durable if durable <= LIMIT else 0


# Headers, settings and slots


def checked_sector(data, magic):
    """The first sector, if magic and checksum are those of a header or of settings."""
    sector = data[:SECTOR]
    if len(sector) < SECTOR or sector[:8] != magic:
        return None
    right = crc32(sector[:12] + bytes(4) + sector[16:])
    return sector if unpack_from("<I", sector, 12)[0] == right else None


def read_header(file, base):
    """The header, if it is intact (F9, F10)."""
    sector = checked_sector(file, b"mqsegmnt")
    if sector is None:
        return None
    version, _writer, _crc, said_base, size, _created, key, length = unpack_from(
        "<HHIQQQ16sI", sector, 8
    )
    if version not in VERSIONS:
        raise Refused("newer-format", base)
    if length > NAME_MAX:
        return None
    if said_base != base:
        raise Refused("foreign-segment", base)
    if not RECORDS <= size <= LIMIT:
        return None
    return SimpleNamespace(version=version, size=size, key=key, name=sector[60 : 60 + length])


def read_slot(data, base, version):
    """A slot, if it is a valid one of that version (F11, F41)."""
    end = 68 if version == 2 else 48
    if len(data) < end + 4 or unpack_from("<I", data, end)[0] != crc32(data[:end]):
        return None
    generation, head, next_number, durable, oldest, said_base = unpack_from("<6Q", data)
    if said_base != base or oldest > base or max(generation, head, next_number, durable) > LIMIT:
        return None
    slot = SimpleNamespace(generation=generation, head=head, durable=durable, oldest=oldest)
    if version == 2:
        slot.key, slot.reader = unpack_from("<16sH", data, 48)
    return slot


def read_slots(file, base, version):
    starts = range(SLOTS, RECORDS, SECTOR)
    slots = [read_slot(file[start : start + SECTOR], base, version) for start in starts]
    return [slot for slot in slots if slot]


# Records


class Segment:
    """A segment's file: header, slots, and once they are settled version, key and records."""

    def __init__(self, base, file):
        self.base, self.file = base, file
        self.header = read_header(file, base)
        self.version = self.key = None
        if self.header:
            self.version, self.key = self.header.version, self.header.key
            self.slots = read_slots(file, base, self.version)
        else:
            self.ask_slots()

    def ask_slots(self):
        """Takes version and key from the slots (F13)."""
        self.slots = read_slots(self.file, self.base, 2)
        if self.slots:
            first = self.slots[0]
            if first.reader not in VERSIONS:
                raise Refused("newer-format", self.base)
            self.version = first.reader
            self.key = first.key if first.reader == 2 else None
        if self.version != 2:
            self.slots = read_slots(self.file, self.base, 1)
            self.version = 1 if self.slots else self.version

    def settle(self, following, version, key):
        """Settles bytes, version and key; `version` is what the segments before it say, and `key`
        the queue's (F14, F15, F28)."""
        end = self.header.size if self.header else following and following.base - self.base
        self.data, self.footer = self.file[:end], None
        # From here on there are only zeros.
        self.zeros = len(self.data.rstrip(b"\0"))
        if self.version is None:
            self.version = 2
            if version == 1:
                self.version = 1
                self.version = 1 if self.whole(RECORDS) else 2
        self.key = self.key or key
        if self.key is None and self.version == 2 and self.zeros > RECORDS:
            raise Refused("lost-key", self.base)
        self.key = self.key or b""

    def is_strange(self):
        """Whether the file has nothing of a segment but its name (F27)."""
        if self.header or self.slots or self.file[:8] == b"mqsegmnt" or self.zeros <= SECTOR:
            return False
        return not any(step.whole for step in self.steps())

    def read(self):
        """Reads the records, and looks at the footer where not all of them are whole."""
        self.records = list(self.steps())
        if self.header:
            self.footer = read_footer(self.file[len(self.data) :], self.base, len(self.data))
        if self.footer and self.key:
            self.believe_footer()
        elif self.footer:
            # That it is there is all it says (F23).
            self.footer.end = self.footer.durable = 0

    def steps(self):
        """Yields the records, and what is bad between them (F32 to F34, F39, F40)."""
        offset, message = RECORDS, None
        while offset < self.zeros:
            record = self.whole(offset)
            if record is None:
                yield SimpleNamespace(whole=False, position=self.base + offset)
                record, message = self.behind(offset, message), None
            if record is None:
                return
            if record.kind == MESSAGE:
                message = record
            yield record
            offset = record.end

    def whole(self, offset):
        """The whole record at an offset, if there is one (F18, F19, F42)."""
        record = self.head(offset)
        if record is None or not record.whole:
            return None
        if self.version == 2 and STATE < record.kind < OPTIONAL_KINDS:
            raise Refused("newer-format", record.position)
        return record

    def behind(self, offset, message):
        """The whole record to go on with behind bad bytes, if any is left (F39, F43)."""
        bad = self.head(offset)
        start = offset + 8
        if bad and self.version == 2:
            start = bad.end
        elif bad and message:
            record = self.whole(bad.end)
            if record and record.kind == MESSAGE and record.number <= message.number + 2:
                return record
        records = (self.whole(offset) for offset in range(start, self.zeros, 8))
        return next((record for record in records if record), None)

    def head(self, offset):
        """What a possible head says; in version 2 its checksum is right."""
        if len(self.data) < offset + 40:
            return None
        return (self.head_2 if self.version == 2 else self.head_1)(offset)

    def head_2(self, offset):
        head_crc, crc, length, kind, units, marks, flags, number, durable = unpack_from(
            "<IIIBBHI4xQQ", self.data, offset
        )
        shortest, size = {MESSAGE: 48, REMOVAL: 48, COPY: 56, STATE: 56}.get(kind, 40), units * 8
        body, end = offset + size, offset + padded(size + length)
        if kind == 0 or size < shortest or end > len(self.data):
            return None
        if kind <= STATE and number >= LIMIT or kind in (REMOVAL, STATE) and length:
            return None
        seed = self.key + (self.base + offset).to_bytes(8, "little")
        head_right = crc32(self.data[offset + 8 : body], crc32(seed))
        if head_crc != head_right:
            return None
        times, fields = (0, 0, 0), offset + shortest
        if kind in (MESSAGE, COPY):
            fields += 16
            # Zeros at the end of the three times are left out (F17).
            first = offset + shortest - 8
            times = unpack_from(f"<{min(3, (body - first) // 8)}Q", self.data, first)
            if body <= first + 24 and len(times) > 1 and times[-1] == 0:
                return None
        return SimpleNamespace(
            whole=crc == crc32(self.data[body:end], head_right),
            position=self.base + offset, end=end, version=2, kind=kind, number=number, flags=flags,
            durable=possible(durable), more=marks & 1 == 1, expires=(times + (0, 0))[1],
            attempts=attempts(self.data[fields:body]), body=self.data[body : body + length],
        )

    def head_1(self, offset):
        crc, length, kind, flags, number, durable = unpack_from("<IIB3xIQQ", self.data, offset)
        size = {MESSAGE: 56, REMOVAL: 40, COPY: 64}.get(kind, 0)
        body, end = offset + size, offset + padded(size + length)
        if size == 0 or number >= LIMIT or kind == REMOVAL and length or end > len(self.data):
            return None
        seed = (self.base + offset).to_bytes(8, "little")
        return SimpleNamespace(
            whole=crc == crc32(self.data[offset + 4 : end], crc32(seed)),
            position=self.base + offset, end=end, version=1, kind=kind, number=number, flags=flags,
            durable=possible(durable), more=False,
            expires=0 if kind == REMOVAL else unpack_from("<Q", self.data, offset + 40)[0],
            attempts=0, body=self.data[body : body + length],
        )

    def believe_footer(self):
        """Lets removals and copies whose own bytes are bad remove what they are about (F24)."""
        whole = {record.position for record in self.records if record.whole}
        for record in self.records:
            record.more = False
        for position, kind, number in self.footer.statements:
            if position not in whole:
                # A state says nothing of failures then: the message's own head counts.
                self.records.append(SimpleNamespace(
                    whole=True, position=position, kind=STATE if kind == STATE else REMOVAL,
                    number=number, durable=0, more=False, attempts=None,
                ))
        self.records.sort(key=lambda record: record.position)


def attempts(fields):
    """How many failures the fields at a head's end tell of; `None` where they do not."""
    while len(fields) >= 4:
        kind, size = unpack_from("<HH", fields)
        if size == 0 or size % 8 or size > len(fields):
            return None
        if kind == FAILURES_FIELD:
            return unpack_from("<I", fields, 4)[0] if size >= FAILURES_REASONS else 0
        fields = fields[size:]
    return None


def read_footer(data, base, size):
    """A footer, if it is a valid one (F23)."""
    if not 72 <= len(data) <= size or len(data) % 8 or data[:8] != b"mqfooter":
        return None
    *words, crc = unpack_from(f"<{len(data) // 8}Q", data)
    _magic, said_base, end, _first, durable, entry_count, run_count, origin_count = words[:8]
    if said_base != base or crc != crc32(data[:-8]):
        return None
    behind = 8 + entry_count + 2 * (run_count + origin_count)
    # A footer of before times were written ends here.
    time_words = words[behind:] or [0]
    if len(words) < behind or len(time_words) != 1 + 2 * time_words[0]:
        return None
    entries, rest = words[8 : 8 + entry_count], words[8 + entry_count : behind]
    pairs = list(zip(rest[::2], rest[1::2]))
    runs, origins = pairs[:run_count], pairs[run_count:]
    times = time_words[1::2]
    kinds = [entry & 15 for entry in entries]
    sizes = [(entry >> 4 & (1 << 28) - 1) * 8 for entry in entries]
    positions = list(accumulate(sizes, initial=base + RECORDS))
    others = [(position, kind) for position, kind in zip(positions, kinds) if kind != MESSAGE]
    is_valid = (
        set(kinds) <= {MESSAGE, REMOVAL, COPY, STATE}
        and all(first + count <= LIMIT for first, count in runs)
        and all(number < LIMIT for number, _origin in origins)
        and kinds.count(MESSAGE) <= sum(count for _first, count in runs)
        and len(others) <= len(origins)
        and positions[-1] == end <= base + size
        and all(time >> 4 < entry_count for time in times)
        and all(one < following for one, following in zip(times, times[1:]))
    )
    if not is_valid:
        return None
    statements = [(*other, number) for other, (number, _origin) in zip(others, origins)]
    return SimpleNamespace(end=end, durable=possible(durable), statements=statements)


# Queues


def encoded(name):
    return re.sub(rb"[^A-Za-z0-9_-]", lambda byte: b"%%%02X" % byte[0][0], name)


def decoded(folder):
    """The name of a folder's queue, `None` if only headers tell it, or `False` if it is no queue
    (F4)."""
    if not folder.startswith(b"q-"):
        return False
    if b"~" in folder:
        return None
    name = re.sub(rb"%([0-9A-F]{2})", lambda byte: bytes([int(byte[1], 16)]), folder[2:])
    return name if encoded(name) == folder[2:] else False


def may_hold(folder, name):
    """Whether a folder with a `~` may be that of a queue of this name (F4)."""
    full = b"q-" + encoded(name)
    return name == folder or len(full) > 200 and folder.startswith(full[:200] + b"~")


def read_file(path):
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise Refused("no-file", os.fsdecode(path))
    with open(path, "rb") as file:
        return file.read()


def bases(folder):
    """The bases of the files that are named like segments (F5)."""
    names = [name for name in os.listdir(folder) if re.fullmatch(rb"[0-9]{20}\.seg", name)]
    return sorted(base for base in map(int, (name[:20] for name in names))
                  if base % 8 == 0 and base <= LIMIT)


def check_settings(path):
    """Refuses a queue with settings of a newer format (F45)."""
    path = os.path.join(path, b"queue.settings")
    if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
        file = read_file(path)
        sector = checked_sector(file, b"mqsettng")
        if sector == file and unpack_from("<H", sector, 8)[0] not in VERSIONS:
            raise Refused("newer-format", "settings")


def read_queue(path, name):
    """The queue's name, and its live messages by rising numbers or `None` if there is no queue."""
    folder = os.path.basename(path)
    check_settings(path)
    segments = []
    for base in bases(path):
        segment = Segment(base, read_file(os.path.join(path, b"%020d.seg" % base)))
        if segment.header:
            if name is None and may_hold(folder, segment.header.name):
                name = segment.header.name
            if segment.header.name != name:
                raise Refused("foreign-segment", base)
        if segment.header or not is_zero(segment.file):
            segments.append(segment)
    if not segments:
        return name, None
    slots = [slot for segment in segments for slot in segment.slots]
    # Of equal generations the last one counts (F12).
    cursor = max(reversed(slots), key=lambda slot: slot.generation, default=None)
    cursor = cursor or SimpleNamespace(head=1, durable=0, oldest=0)
    segments = [segment for segment in segments if segment.base >= cursor.oldest]
    settle(segments)
    for segment in segments:
        segment.read()
    name = folder if name is None else name
    return name, live(counting(segments, cursor.durable), cursor.head)


def settle(segments):
    """Settles what the files are, and refuses those that cannot be (F14, F15, F27)."""
    following = segments[1:] + [None]
    for segment, after in zip(segments, following):
        if segment.header and after and segment.base + segment.header.size > after.base:
            raise Refused("overlapping-segment", segment.base)
    key = next((segment.key for segment in reversed(segments) if segment.key), None)
    version = 1
    for segment, after in zip(segments, following):
        version = segment.version or version
        segment.settle(after, version, key)
    for segment in segments:
        if segment.is_strange():
            raise Refused("foreign-segment", segment.base)


def counting(segments, durable):
    """Yields the records that count; `durable` is the cursor's (F22, F33, F37, F38)."""
    for index, segment in enumerate(segments):
        step = []
        for record in segment.records:
            if record.whole:
                durable = max(durable, record.durable)
                step.append(record)
                if record.more:
                    continue
            elif not is_rotten(segments, index, record.position, durable):
                return
            yield from step
            step = []
        if step and not is_rotten(segments, index, step[0].position, durable):
            return
        yield from step
        if segment.footer:
            durable = max(durable, segment.footer.durable)


def is_rotten(segments, index, position, durable):
    """Whether something says that a position in a segment was durable (F37)."""
    segment, newer = segments[index], segments[index + 1 :]
    return (
        durable > position
        or bool(segment.footer and segment.footer.end > position)
        or any(record.whole and record.durable > position for record in segment.records)
        or any(it.slots or it.footer or any(at.whole for at in it.records) for it in newer)
    )


def live(records, head):
    """What is live of the records that count (F25, F26)."""
    table, states, last = {}, {}, -1
    for record in records:
        if record.kind == MESSAGE and record.version == 2:
            if record.number <= last:
                raise Refused("newer-format", record.position)
            last = record.number
        if record.kind == REMOVAL:
            table.pop(record.number, None)
        elif record.kind in (MESSAGE, COPY) and record.number >= head:
            table[record.number] = record
            states.pop(record.number, None)
        elif record.kind == STATE:
            states[record.number] = record.attempts
    for number, message in table.items():
        stated = states.get(number)
        message.attempts = (message.attempts if stated is None else stated) or 0
    return [table[number] for number in sorted(table)]


def read_directory(directory):
    """Yields folder and name of each queue, and its messages or why it is not read."""
    found = []
    for folder in sorted(os.listdir(directory)):
        path, name = os.path.join(directory, folder), decoded(folder)
        if name is False or not stat.S_ISDIR(os.lstat(path).st_mode) or not bases(path):
            continue
        try:
            name, messages = read_queue(path, name)
        except Refused as refused:
            messages = refused
        if messages is not None:
            found.append((folder, name, messages))
    names = [name for _folder, name, messages in found if isinstance(messages, list)]
    for folder, name, messages in found:
        if isinstance(messages, list) and names.count(name) > 1:
            messages = Refused("foreign-segment", "two folders")
        yield folder, name, messages


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    code = 0
    for folder, name, messages in read_directory(os.fsencode(sys.argv[1])):
        if isinstance(messages, Refused):
            code = 1
            print(os.fsdecode(folder), *messages.args, sep="\t", file=sys.stderr)
            continue
        for message in messages:
            fields = message.number, message.flags, message.expires, message.attempts
            print(quote(name), *fields, quote(message.body), sep="\t")
    sys.exit(code)


if __name__ == "__main__":
    main()
