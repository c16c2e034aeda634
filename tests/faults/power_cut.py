"""The power is cut under mixed work, again and again, under `always`: what was answered is there,
whatever the disk forgets of what was not flushed. The disk is `forgetting_disk.py` under a loop
device with ext4, so that the kernel's own order of writes is what is tried, directories among them.

Usage: power_cut.py MQD DIRECTORY. Needs root, FUSE, loop devices and the tools of ext4.
"""

import atexit
import os
import subprocess
import sys

from client import Daemon, is_long, run, say, seeded, skip, summarize
from ledger import VERBS, Ledger
from load import QUEUES, Load, settle

CYCLES_LONG, CYCLES_SHORT = 100, 5
SIZE = 96 << 20
ARGUMENTS = ["--fsync", "always", "--segment-size", "64k"]
# The daemon lives on for a moment after the cut: a queue whose sync has failed refuses commands.
WITHOUT_POWER = dict.fromkeys(VERBS, "(os error ")


class ForgettingDisk:
    """The disk, with its file system mounted at `path`."""

    def __init__(self, directory, seed):
        fuse, self.path = (os.path.join(directory, name) for name in ("fuse", "mount"))
        for made in (fuse, self.path):
            os.mkdir(made)
        server = os.path.join(os.path.dirname(__file__), "forgetting_disk.py")
        self.process = subprocess.Popen(
            [sys.executable, server, fuse, str(SIZE), str(seed)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        atexit.register(self.end)
        if self.process.stdout.readline() != "mounted\n":
            skip(self.process.stderr.read().strip())
        self.file = os.path.join(fuse, "disk")
        self.forgotten = self.kept = 0
        tried("mkfs.ext4", "-q", "-F", self.file)
        self.mount()

    def mount(self):
        tried("mount", "-o", "loop", self.file, self.path)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def cut_power(self):
        assert self.tell("cut") == ["cut"]

    def start_again(self):
        """As the machine does: whatever was in its memory is gone."""
        subprocess.run(["umount", self.path], check=True, stderr=subprocess.DEVNULL)
        forgotten, kept = map(int, self.tell("forget"))
        self.forgotten += forgotten
        self.kept += kept
        self.mount()

    def end(self):
        subprocess.call(["umount", "-l", self.path], stderr=subprocess.DEVNULL)
        self.process.stdin.close()
        self.process.wait(60)


def tried(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        skip(f"{command[0]}: {done.stdout.strip()}")


def drill(program, directory):
    choose, ledger = seeded(), Ledger(QUEUES)
    disk = ForgettingDisk(directory, choose.randrange(1 << 30))
    data = os.path.join(disk.path, "data")
    cycles, found, torn = CYCLES_LONG if is_long() else CYCLES_SHORT, 0, 0
    for _ in range(cycles):
        daemon = Daemon(program, data, ARGUMENTS)
        settle(daemon, ledger)
        daemon.check_undamaged()
        found += sum(map(len, ledger.contents.values()))
        torn += daemon.info()["torn_tails"]
        load = Load(daemon, ledger, choose, WITHOUT_POWER)
        disk.cut_power()
        daemon.kill()
        load.join_after_kill()
        disk.start_again()
    daemon = Daemon(program, data, ARGUMENTS)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    assert disk.forgotten > 0, "the disk has forgotten nothing"
    summarize(f"{cycles} power cuts, {disk.forgotten} sectors forgotten and {disk.kept} kept that "
              f"were not flushed; {ledger}; {found} messages found again, all that had to be there, "
              f"once, in order; {torn} torn tails, no damage")


run(drill)
