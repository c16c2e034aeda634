"""File systems that change or fail under a daemon: one that turns read-only, a queue's folder on a
mount of its own, files restored with holes, a sector that cannot be read, and no fallocate. What
fails costs one queue, with an error and never with a signal (rules 17 and 19).

Usage: mounts.py MQD DIRECTORY. Needs root, loop devices and the tools of ext2 and ext4.
"""

import atexit
import fcntl
import os
import struct
import subprocess

from client import Daemon, refusal, run, skip, summarize, wait_until

ARGUMENTS = ["--segment-size", "1m"]
SIZE = 64 << 20
FS_IOC_FIEMAP = 0xC020660B
LOOP_SET_CAPACITY = 0x4C07


class FileSystem:
    """A small one of its own, mounted."""

    def __init__(self, directory, name, *mkfs):
        self.image, self.path = (os.path.join(directory, name + end) for end in (".image", ""))
        with open(self.image, "wb") as image:
            image.truncate(SIZE)
        os.mkdir(self.path)
        tried(*mkfs, self.image)
        self.mount()
        atexit.register(self.unmount)
        self.data = os.path.join(self.path, "data")

    def mount(self, *options):
        tried("mount", "-o", ",".join(("loop",) + options), self.image, self.path)

    def unmount(self):
        subprocess.call(["umount", "-l", self.path], stderr=subprocess.DEVNULL)

    def device(self):
        with open("/proc/mounts", encoding="utf-8") as mounts:
            return [line.split()[0] for line in mounts if line.split()[1] == self.path][-1]


def tried(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        skip(f"{command[0]}: {done.stdout.strip()}")


def body(number):
    return (b"%08d" % number).ljust(2000, b"x")


def push(daemon, queue, count):
    client = daemon.redis()
    assert all(client.ask("SADD", queue, body(number)) == 1 for number in range(count))


def segments(data, queue):
    folder = os.path.join(data, "q-" + queue)
    return sorted(os.path.join(folder, name) for name in os.listdir(folder))


def read_only(program, directory):
    """Every message can be read, and a start on it serves that too."""
    place = FileSystem(directory, "read_only", "mkfs.ext4", "-q", "-F")
    daemon = Daemon(program, place.data, ARGUMENTS)
    push(daemon, "jobs", 1000)
    assert daemon.stop() == 0
    tried("mount", "-o", "remount,ro", place.path)
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert len(daemon.redis().ask("SMEMBERS", "jobs")) == 1000
    assert "closed for writing" in refusal(lambda: daemon.redis().ask("SADD", "jobs", "new"))
    daemon.kill()
    tried("mount", "-o", "remount,rw", place.path)
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert daemon.redis().ask("SADD", "jobs", "new") == 1
    daemon.kill()
    place.unmount()


def immovable(program, directory):
    """The folder of a queue is a mount of its own: a rename cannot drop it."""
    place = FileSystem(directory, "immovable", "mkfs.ext4", "-q", "-F")
    daemon = Daemon(program, place.data, ARGUMENTS)
    push(daemon, "jobs", 1000)
    assert daemon.stop() == 0
    folder = os.path.join(place.data, "q-jobs")
    tried("mount", "--bind", folder, folder)
    # Settings go with their queue.
    open(os.path.join(folder, "queue.settings"), "xb").close()
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert daemon.redis().ask("DEL", "jobs") == 1
    assert daemon.redis().ask("SCARD", "jobs") == 0
    assert os.listdir(folder) == []
    assert daemon.redis().ask("SADD", "jobs", "after") == 1
    daemon.kill()
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert daemon.redis().ask("SMEMBERS", "jobs") == [b"after"]
    assert daemon.redis().ask("DEL", "jobs") == 1
    daemon.kill()
    # An empty folder that cannot be removed is no reason to refuse a start.
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert daemon.redis().ask("SCARD", "jobs") == 0
    daemon.kill()
    tried("umount", folder)
    place.unmount()


def immovable_file(program, directory):
    """A segment is a mount of its own: it cannot be unlinked, and what is dead in it stays dead."""
    place = FileSystem(directory, "immovable_file", "mkfs.ext4", "-q", "-F")
    arguments = ["--segment-size", "64k"]
    daemon = Daemon(program, place.data, arguments)
    push(daemon, "jobs", 20)
    oldest = segments(place.data, "jobs")[0]
    tried("mount", "--bind", oldest, oldest)
    assert [daemon.redis().ask("SPOP", "jobs") for _ in range(20)] == list(map(body, range(20)))
    # A backup by hard links: what is unlinked gives no room back.
    for path in segments(place.data, "jobs"):
        if path != oldest:
            os.link(path, os.path.join(place.path, os.path.basename(path)))
    take_the_rest(place.path)
    error = refusal(lambda: daemon.redis().ask("SADD", "jobs", bytes(100_000)))
    assert "full" in error, error
    assert daemon.stop() == 0
    tried("umount", oldest)
    os.remove(os.path.join(place.path, "filler"))
    daemon = Daemon(program, place.data, arguments)
    assert daemon.redis().ask("SCARD", "jobs") == 0
    daemon.check_undamaged()

    # A drop, where the folder is a mount as well.
    push(daemon, "more", 20)
    assert daemon.stop() == 0
    folder = os.path.join(place.data, "q-more")
    tried("mount", "--bind", folder, folder)
    oldest = segments(place.data, "more")[0]
    tried("mount", "--bind", oldest, oldest)
    daemon = Daemon(program, place.data, arguments)
    for _ in range(2):
        assert daemon.redis().ask("DEL", "more") == 1
        assert daemon.redis().ask("SCARD", "more") == 0
        assert daemon.redis().ask("SADD", "more", "after") == 1
    daemon.kill()
    tried("umount", oldest)
    tried("umount", folder)
    daemon = Daemon(program, place.data, arguments)
    assert daemon.redis().ask("SMEMBERS", "more") == [b"after"]
    daemon.check_undamaged()
    daemon.kill()
    place.unmount()


def copy_with_holes(source, target):
    """As rsync -S, tar -S and restores of backup tools do."""
    with open(source, "rb") as old, open(target, "wb") as new:
        while block := old.read(4096):
            new.write(block) if any(block) else new.seek(len(block), os.SEEK_CUR)
        new.truncate(old.tell())


def holes(program, directory):
    """Before the disk is full, and when it is full already."""
    for is_full_before in (False, True):
        place = FileSystem(directory, f"holes_{is_full_before}", "mkfs.ext4", "-q", "-F")
        daemon = Daemon(program, place.data, ARGUMENTS)
        push(daemon, "jobs", 1500)
        assert daemon.stop() == 0
        for path in segments(place.data, "jobs"):
            copy_with_holes(path, path + ".copy")
            os.rename(path + ".copy", path)
        if is_full_before:
            take_the_rest(place.path)
        daemon = Daemon(program, place.data, ARGUMENTS)
        take_the_rest(place.path)
        client, pushed, error = daemon.redis(), 0, None
        while error is None:
            try:
                pushed += client.ask("SADD", "jobs", body(10_000 + pushed))
            except Exception as refused:  # whatever it is, it must not be a signal
                error = str(refused)
        daemon.check_alive()
        assert "full" in error, error
        assert daemon.redis().ask("SPOP", "jobs") == body(0)
        assert daemon.redis().ask("SCARD", "jobs") == 1499 + pushed
        daemon.kill()
        place.unmount()


def take_the_rest(path):
    """Leaves not a block free."""
    with open(os.path.join(path, "filler"), "ab", buffering=0) as filler:
        for size in (1 << 20, 65536, 4096, 512):
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError:
                pass
        os.fsync(filler.fileno())


def first_extent(path):
    """Where the first bytes of a file lie on the device, and how many of them."""
    buffer = bytearray(struct.pack("=QQLLLL", 0, 2**64 - 1, 1, 0, 1, 0) + bytes(56))
    with open(path, "rb") as file:
        fcntl.ioctl(file, FS_IOC_FIEMAP, buffer)
    return struct.unpack_from("=QQ", buffer, 32 + 8)


def unreadable(program, directory):
    """At the start the queue is closed; while it is popped, the pops answer an error."""
    place = FileSystem(directory, "unreadable", "mkfs.ext4", "-q", "-F", "-O", "^has_journal")
    daemon = Daemon(program, place.data, ARGUMENTS)
    assert daemon.redis().ask("SADD", "good", "g") == 1
    push(daemon, "jobs", 3000)
    sealed = segments(place.data, "jobs")[:-2]
    wait_until(lambda: all(os.path.getsize(path) % 4096 for path in sealed[1:]), "footers")
    assert daemon.stop() == 0
    last = max(segments(place.data, "jobs"), key=lambda path: first_extent(path)[0])
    start, length = first_extent(last)
    place.unmount()
    place.mount()
    os.truncate(place.image, (start + length // 2) // 4096 * 4096)
    with open(place.device(), "rb") as device:
        fcntl.ioctl(device, LOOP_SET_CAPACITY)
    daemon = Daemon(program, place.data, ARGUMENTS)
    log = daemon.log()
    is_closed, popped, error = os.path.basename(last) in log, 0, None
    client = daemon.redis()
    while error is None:
        try:
            assert client.ask("SPOP", "jobs") is not None, "all of it was read"
            popped += 1
        except Exception as refused:  # whatever it is, it must not be a signal
            error = str(refused)
    daemon.check_alive()
    assert os.path.basename(last) in error and "read" in error.lower(), error
    assert daemon.redis().ask("SPOP", "good") == b"g"
    dump = os.path.join(os.path.dirname(program), "mq-dump")
    for command in (["list"], ["show", "jobs"], ["messages", "jobs"], ["verify"],
                    ["segment", last], ["export"]):
        done = subprocess.run([dump, "--dir", place.data, *command], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
        assert done.returncode in (0, 1), f"{command}: {done.returncode}"
    daemon.kill()
    place.unmount()
    return "at the start" if is_closed else f"after {popped} pops"


def without_fallocate(program, directory):
    """Sealed segments get their footers there too, and the log is quiet."""
    place = FileSystem(directory, "ext2", "mkfs.ext2", "-q", "-F")
    daemon = Daemon(program, place.data, ["--segment-size", "64k"])
    push(daemon, "jobs", 1000)
    sealed = segments(place.data, "jobs")[:-2]

    def has_footer(path):
        with open(path, "rb") as file:
            return os.path.getsize(path) > int.from_bytes(file.read(32)[24:32], "little")

    wait_until(lambda: all(map(has_footer, sealed)), "footers")
    assert " WARN " not in daemon.log(), daemon.log()
    daemon.kill()
    place.unmount()


def drill(program, directory):
    if os.geteuid() != 0:
        skip("mounts need root")
    read_only(program, directory)
    immovable(program, directory)
    immovable_file(program, directory)
    holes(program, directory)
    found = unreadable(program, directory)
    without_fallocate(program, directory)
    summarize("a read-only file system was read, a queue on a mount of its own dropped, dead files "
              "on mounts of their own stayed dead, files with "
              f"holes written to on a full disk, an unreadable sector named {found}, and footers "
              "written without fallocate; no signal, and no other queue was touched")


run(drill)
