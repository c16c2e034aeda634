"""A disk that forgets: one file, `disk`, for a loop device, of which a power cut leaves what was
flushed, and of what was written since any sectors and not the others. Standard library only; it
speaks the protocol of linux/fuse.h with the kernel.

Usage: forgetting_disk.py DIRECTORY BYTES SEED. It serves the file in DIRECTORY and obeys lines of
its input, each with one of output: `cut` (everything fails after at most 10,000 more writes), `forget`
(what was not flushed is forgotten, in part; then all works again). It ends with its input. Needs
root.
"""

import ctypes
import errno
import os
import random
import select
import stat
import struct
import sys

SECTOR = 512
MAX_WRITE = 128 * 1024
DIRECTORY, DISK = 1, 2

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE = 1, 2, 3, 4, 14, 15, 16, 18
FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 20, 25, 26, 27, 29, 36, 42
UNANSWERED = (FORGET, INTERRUPT, BATCH_FORGET)
# The kernel caches nothing of the file: it would remember.
FOPEN_DIRECT_IO = 1
FUSE_BIG_WRITES, FUSE_MAX_PAGES = 1 << 5, 1 << 22


class Disk:
    """Its bytes, and what those sectors held at the last flush that were written since."""

    def __init__(self, size, seed):
        self.bytes, self.flushed = bytearray(size), {}
        self.choose, self.has_power = random.Random(seed), True
        # Writes until the power is cut; None: it is not to be cut.
        self.writes_left = None

    def cut(self):
        self.writes_left = self.choose.randrange(1, 10_000)

    def write(self, offset, data):
        for sector in range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1):
            start = sector * SECTOR
            self.flushed.setdefault(sector, bytes(self.bytes[start:start + SECTOR]))
        self.bytes[offset:offset + len(data)] = data
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left == 0:
                self.writes_left, self.has_power = None, False
                print("cut", flush=True)

    def flush(self):
        self.flushed.clear()

    def forget(self):
        """Answers how many sectors are as they were at the last flush, and how many are not."""
        part, forgotten = self.choose.choice((0, 0.5, 1)), 0
        for sector, before in self.flushed.items():
            if self.choose.random() < part:
                self.bytes[sector * SECTOR:(sector + 1) * SECTOR] = before
                forgotten += 1
        kept = len(self.flushed) - forgotten
        self.flushed.clear()
        self.has_power = True
        return forgotten, kept


def attributes(node, size):
    mode = stat.S_IFDIR | 0o755 if node == DIRECTORY else stat.S_IFREG | 0o600
    size = 0 if node == DIRECTORY else size
    return struct.pack("<6Q10I", node, size, size // SECTOR, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0,
                       4096, 0)


def answer(disk, operation, node, body):
    """The bytes of a reply; raises OSError."""
    if operation == INIT:
        major, minor = struct.unpack_from("<2I", body)
        return struct.pack("<4I2H2I2H8I", major, min(minor, 36), 0, FUSE_BIG_WRITES | FUSE_MAX_PAGES,
                           16, 12, MAX_WRITE, 1, MAX_WRITE // 4096, 0, *[0] * 8)
    if operation == LOOKUP:
        if body.rstrip(b"\0") != b"disk":
            raise OSError(errno.ENOENT, "")
        return struct.pack("<4Q2I", DISK, 1, 60, 60, 0, 0) + attributes(DISK, len(disk.bytes))
    if operation in (GETATTR, SETATTR):
        return struct.pack("<Q2I", 60, 0, 0) + attributes(node, len(disk.bytes))
    if operation in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 0, FOPEN_DIRECT_IO, 0)
    if operation in (FLUSH, RELEASE, RELEASEDIR):
        return b""
    if operation not in (READ, WRITE, FSYNC):
        raise OSError(errno.ENOSYS, "")
    if not disk.has_power:
        raise OSError(errno.EIO, "")
    if operation == FSYNC:
        disk.flush()
        return b""
    _, offset, size = struct.unpack_from("<2QI", body)
    if operation == READ:
        return bytes(disk.bytes[offset:offset + size])
    disk.write(offset, body[40:40 + size])
    return struct.pack("<2I", size, 0)


def serve(disk, kernel):
    request = os.read(kernel, MAX_WRITE + 8192)
    _, operation, unique, node = struct.unpack_from("<2I2Q", request)
    if operation in UNANSWERED:
        return
    try:
        error, reply = 0, answer(disk, operation, node, request[40:])
    except OSError as failed:
        error, reply = -failed.errno, b""
    os.write(kernel, struct.pack("<IiQ", 16 + len(reply), error, unique) + reply)


def obey(disk, line):
    if line == "cut":
        disk.cut()
    elif line == "forget":
        print(*disk.forget(), flush=True)


def main(directory, size, seed):
    try:
        disk, kernel = Disk(int(size), int(seed)), os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        sys.exit(f"forgetting_disk: {error}")
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={kernel},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"forgetting", os.fsencode(directory), b"fuse", 0, options):
        sys.exit(f"forgetting_disk: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
    try:
        while True:
            ready, _, _ = select.select([kernel, sys.stdin], [], [])
            if kernel in ready:
                serve(disk, kernel)
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                obey(disk, line.strip())
    finally:
        libc.umount2(os.fsencode(directory), 2)


main(*sys.argv[1:])
