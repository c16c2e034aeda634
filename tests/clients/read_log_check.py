#!/usr/bin/env python3
"""Compares what read_log.py lists with what mq-dump exports and the daemon delivers.

Each round works on a daemon, with bodies that imitate records among the messages, and ends it, or
takes the directories of tests/fixtures. In two rounds of three it does some harm to the files: it
damages, cuts, loses, swaps, doubles or moves them, or puts a record of a later version into one.
Then it lists them with read_log.py, exports them with the mq-dump beside mqd, starts the daemon on
them and pops everything. All three must agree: bodies and flags, in order, and why a queue is not
read. The seed is printed; MQ_TEST_SEED repeats a run.

usage: read_log_check.py path/to/mqd [rounds]
"""

import base64
import glob
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from urllib.parse import unquote_to_bytes

HERE = os.path.dirname(os.path.abspath(__file__))
READER = os.path.join(HERE, "read_log.py")
FIXTURES = os.path.join(os.path.dirname(HERE), "fixtures")
# Why a queue is not read.
REASONS = re.compile(r"\b(newer-format|foreign-segment|overlapping-segment|lost-key)\b")
NAMES = [b"jobs", b"a/b\r\n\0", b"x" * 300, b""]
OLD = b"buried"


class Client:
    """The few replies of Redis and memcached that are needed here."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.replies = self.socket.makefile("rb")

    def __call__(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        bulks = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(bulks))
        return self.reply()

    def reply(self):
        line = self.replies.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$":
            return self.replies.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        assert kind in (b":", b"+"), line
        return int(rest) if kind == b":" else rest

    def set(self, key, flags, exptime, body):
        self.socket.sendall(b"set %s %d %d %d\r\n%s\r\n" % (key, flags, exptime, len(body), body))
        assert self.replies.readline() == b"STORED\r\n"

    def get(self, key):
        """Flags and body of the oldest message."""
        self.socket.sendall(b"get %s\r\n" % key)
        line = self.replies.readline()
        if line == b"END\r\n":
            return None
        _value, _key, flags, length = line.split()
        body = self.replies.read(int(length) + 2)[:-2]
        assert self.replies.readline() == b"END\r\n"
        return int(flags), body


class Daemon:
    """A daemon on `directory`."""

    def __init__(self, binary, directory):
        options = ["--redis", "127.0.0.1:0", "--memcached", "127.0.0.1:0", "--log", "error"]
        options += ["--segment-size", "64k", "--dir", directory, "--fsync", "everysec"]
        self.log = open(os.path.join(os.path.dirname(directory), "log"), "ab")
        self.process = subprocess.Popen(
            [binary, *options], stdout=subprocess.PIPE, stderr=self.log
        )
        ports = [int(self.process.stdout.readline().rsplit(b":", 1)[1]) for _ in range(2)]
        self.redis, self.memcached = Client(ports[0]), Client(ports[1])

    def end(self, kill):
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()


def forged(directory, draw):
    """A body that holds records as somebody without the key makes them, for the very place in the
    log of `jobs` that it is about to have, or near it."""
    files = sorted(glob.glob(f"{directory}/q-jobs/*.seg"))
    written = [(path, len(read(path).rstrip(b"\0"))) for path in files]
    path, end = max((it for it in written if it[1] > 2560), default=(f"{0:020}.seg", 2560))
    position = int(os.path.basename(path)[:20]) + -(-end // 8) * 8 + 48
    body = b""
    for number in draw.sample(range(1 << 61, (1 << 61) + 500), draw.randint(1, 8)):
        seed = struct.pack("<Q", position + len(body))
        inner = draw.randbytes(8 * draw.randint(0, 3))
        if draw.random() < 0.5:
            old = struct.pack("<IIIQQQQQ", len(inner), 1, 0, number, 0, 1, 0, 0) + inner
            body += struct.pack("<I", zlib.crc32(seed + old)) + old
        else:
            head = struct.pack("<IBBHIIQQQ", len(inner), 1, 6, 0, 0, 0, number, 0, 1)
            crc = zlib.crc32(bytes(16) + seed + head)
            body += struct.pack("<II", crc, zlib.crc32(inner, crc)) + head + inner
    return body


def work(daemon, directory, draw):
    """Pushes, pops and removals from the middle, alone and several as a step, over several
    segments."""
    for name in draw.sample(NAMES, draw.randint(1, len(NAMES))):
        pushed = []
        for _ in range(draw.randint(1, 400)):
            what, count = draw.random(), draw.choice([1, 1, 1, 5])
            if what < 0.7 or not pushed:
                lengths = [draw.choice([0, 1, 7, 8, 100, 1000]) for _ in range(count)]
                bodies = [draw.randbytes(length) for length in lengths]
                if name == b"jobs" and draw.random() < 0.2:
                    bodies[0] = forged(directory, draw)
                daemon.redis("SADD", name, *bodies)
                pushed += bodies
            elif what < 0.85:
                daemon.redis("SPOP", name, count)
            else:
                daemon.redis("SREM", name, *draw.choices(pushed, k=count))
    for number in range(draw.randint(0, 30)):
        exptime = draw.choice([0, 0, 1000, int(time.time()) + 1])
        daemon.memcached.set(b"flagged", draw.getrandbits(32), exptime, b"%d" % number)


def bury(daemon, directory):
    """One old message under many that are gone: it is copied forward, and all segments die, also
    those with the removals. Answers the first segments."""
    segments = f"{directory}/q-buried/*.seg"
    pushed, count = {}, 0
    deadline = time.time() + 60
    while not pushed or any(map(os.path.exists, used)):
        for number in range(count, count + 300):
            daemon.redis("SADD", OLD, b"%d" % number + bytes(1000))
        pushed = pushed or {path: read(path) for path in glob.glob(segments)}
        for number in range(max(count, 1), count + 300):
            daemon.redis("SREM", OLD, b"%d" % number + bytes(1000))
        if count == 0:
            used = glob.glob(segments)
        count += 300
        time.sleep(0.1)
        assert time.time() < deadline, "the first segments do not die"
    assert b"copied_messages:0" not in daemon.redis("INFO"), "nothing was copied forward"
    return pushed


def restore(files):
    """Brings back dead segments, as when a crash comes before their unlinking is durable."""
    for path, data in files.items():
        with open(path, "xb") as file:
            file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def pick(directory, draw):
    """A segment's file, and what is in it."""
    path = draw.choice(sorted(glob.glob(glob.escape(directory) + "/q-*/*.seg")))
    return path, bytearray(read(path))


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def write_later(directory, draw):
    """Puts a record behind the last one of a segment, with the queue's key: of a kind that this
    version passes over or refuses, or a message that was not pushed at the tail."""
    path, data = pick(directory, draw)
    if len(data) < 2560 or data[8] != 2:
        return "nothing: the segment is not one of version 2"
    size, key, end = struct.unpack_from("<Q", data, 24)[0], data[40:56], 2560
    while end + 40 <= size and data[end + 12]:
        length = struct.unpack_from("<I", data, end + 8)[0]
        end += 8 * data[end + 13] + -(-length // 8) * 8
    kind = draw.choice([1, 4, 5, 127, 128, 255])
    more = struct.pack("<Q", 1) if kind == 1 else draw.randbytes(8 * draw.randrange(4))
    number = 1 << 61 if kind == 1 else draw.getrandbits(64)
    head = struct.pack("<IBBHIIQQ", 8, kind, 5 + len(more) // 8, 0, 0, 0, number, 0) + more
    crc = zlib.crc32(key + struct.pack("<Q", int(os.path.basename(path)[:20]) + end) + head)
    inner = draw.randbytes(8)
    record = struct.pack("<II", crc, zlib.crc32(inner, crc)) + head + inner
    if end + len(record) > size:
        return "nothing: the segment is full"
    # A footer would say something else than the records.
    del data[size:]
    data[end : end + len(record)] = record
    if draw.random() < 0.3 and end > 2560:
        data[end - 1] ^= 1
    write(path, data)
    return f"a record of kind {kind} at {end} of {os.path.relpath(path, directory)}"


def damage(directory, draw):
    """Changes a few bytes of a file, or blanks them: somewhere, at its start, or at the end of what
    is written."""
    path, data = pick(directory, draw)
    end = len(data.rstrip(b"\0")) or 1
    starts = [draw.randrange(end), draw.randrange(min(end, 2560)), end - draw.randint(1, 300)]
    start = max(0, draw.choice(starts))
    count = min(draw.choice([1, 2, 512, 2560]), len(data) - start)
    blank = draw.random() < 0.5
    data[start : start + count] = bytes(count) if blank else draw.randbytes(count)
    write(path, data)
    return f"{count} bytes at {start} of {os.path.relpath(path, directory)}"


def misplace(directory, draw):
    """Cuts a file, loses it, or puts it or something else in the place of another one."""
    path, data = pick(directory, draw)
    other = draw.choice([
        pick(directory, draw)[0],
        os.path.join(os.path.dirname(path), f"{draw.randrange(0, 1 << 18, 8):020}.seg"),
    ])
    what = draw.choice(["cut", "lost", "doubled", "swapped", "written over"])
    names = os.path.relpath(path, directory), os.path.relpath(other, directory)
    if what == "cut":
        write(path, data[: draw.choice([0, 100, 1000, 2560, draw.randrange(len(data) + 1)])])
    elif what == "lost":
        os.unlink(path)
    elif what == "doubled":
        write(other, data)
    elif what == "swapped":
        found = read(other) if os.path.exists(other) else b""
        write(other, data)
        write(path, found)
    else:
        write(other, draw.choice([bytes(3000), draw.randbytes(3000), b"mqsegmnt", b""]))
    return f"{names[0]} {what}, {names[1]}"


def listed(directory):
    """By queue: flags and bodies of what is not expired. And why others are not read."""
    text = subprocess.run([sys.executable, READER, directory], capture_output=True)
    errors = text.stderr.decode()
    assert text.returncode == (1 if errors else 0) and "Traceback" not in errors, errors
    queues = {}
    for line in text.stdout.decode().splitlines():
        name, _number, flags, expires, _attempts, body = line.split("\t")
        if int(expires) == 0 or int(expires) > time.time() * 1000:
            queue = queues.setdefault(unquote_to_bytes(name), [])
            queue.append((int(flags), unquote_to_bytes(body)))
    return queues, set(REASONS.findall(errors))


def exported(binary, directory):
    """The same, by mq-dump."""
    dump = [os.path.join(os.path.dirname(binary), "mq-dump"), "--dir", directory]
    # Where something is damaged they end with 1.
    text = subprocess.run([*dump, "export"], capture_output=True)
    found = subprocess.run([*dump, "verify"], capture_output=True)
    queues = {}

    def field(line, name):
        encoded = line.get(name + "_base64")
        return line[name].encode() if encoded is None else base64.b64decode(encoded)

    for line in map(json.loads, text.stdout.decode().splitlines()):
        if line["expires_ms"] == 0 or line["expires_ms"] > time.time() * 1000:
            queue = queues.setdefault(field(line, "queue"), [])
            queue.append((line["flags"], field(line, "value")))
    return queues, set(REASONS.findall(found.stdout.decode()))


def delivered(binary, directory):
    """The same, by popping; Redis has no flags."""
    daemon, queues = Daemon(binary, directory), {}
    for name in daemon.redis("KEYS", "*"):
        if name == b"flagged":
            messages = list(iter(lambda: daemon.memcached.get(b"flagged"), None))
        else:
            messages = [(None, body) for body in daemon.redis("SPOP", name, 1_000_000)]
        if messages:
            queues[name] = messages
    daemon.end(kill=True)
    with open(daemon.log.name) as log:
        return queues, set(REASONS.findall(log.read()))


def without_flags(queues):
    """As `delivered` answers."""
    stripped = {name: [(None, body) for _, body in queue] for name, queue in queues.items()}
    return {**stripped, **{b"flagged": queues[b"flagged"]}} if b"flagged" in queues else stripped


def play(binary, number, draw):
    with tempfile.TemporaryDirectory(prefix="mq-read-log-") as scratch:
        directory = os.path.join(scratch, "data")
        if number % 3 == 2:
            shutil.copytree(f"{FIXTURES}/v{draw.randint(1, 2)}/data", directory)
        else:
            daemon = Daemon(binary, directory)
            work(daemon, directory, draw)
            files = bury(daemon, directory) if number == 0 else {}
            daemon.end(kill=draw.random() < 0.5)
            restore(files)
        done = []
        for _ in range(draw.randint(1, 3) if number % 3 else 0):
            done.append(draw.choice([damage, damage, misplace, write_later])(directory, draw))
        time.sleep(1.1)  # What expires has expired.
        expected, dumped = listed(directory), exported(binary, directory)
        got = delivered(binary, directory)
        if expected != dumped or (without_flags(expected[0]), expected[1]) != got:
            for name in sorted({*expected[0], *dumped[0], *got[0]}):
                counts = [len(queues.get(name, [])) for queues, _ in (expected, dumped, got)]
                print(f"queue {name!r}: listed, exported and delivered {counts}")
            print(f"not read: {expected[1]}, {dumped[1]} and {got[1]}")
            with open(os.path.join(scratch, "log")) as log:
                print(log.read())
            sys.exit(f"round {number} differs, damaged: {done}")
        return sum(map(len, got[0].values()))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    rounds = int(sys.argv[2]) if len(sys.argv) == 3 else 6
    seed = int(os.environ.get("MQ_TEST_SEED") or time.time_ns())
    print(f"read_log_check: MQ_TEST_SEED={seed}")
    draw = random.Random(seed)
    total = sum(play(sys.argv[1], number, draw) for number in range(rounds))
    print(f"read_log_check: {rounds} rounds, {total} messages agree")


if __name__ == "__main__":
    main()
