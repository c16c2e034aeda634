"""kill -9 in the middle of mixed work, again and again: nothing answered is lost, under any policy.

Segments are small, so that the kills meet rotations, dead segments, messages that are copied
forward and footers that are written; some come while the daemon recovers from the one before.

Usage: kill.py MQD DIRECTORY
"""

import glob
import os
import shutil
import time

from client import Daemon, is_long, run, say, seeded, spawn, summarize
from ledger import Ledger
from load import QUEUES, Load, contents, settle

POLICIES = ("always", "everysec", "never")
CYCLES_LONG, CYCLES_SHORT = 120, 6
SEGMENT = 64 * 1024


class Seen:
    """What the kills have met, so that nobody believes in a drill that met nothing."""

    def __init__(self):
        self.kills = self.in_recovery = self.copied = self.torn = self.messages = 0
        self.segments, self.footers = set(), set()

    def look(self, data):
        for path in glob.glob(os.path.join(data, "q-q*", "*.seg")):
            self.segments.add(path)
            with open(path, "rb") as segment:
                size = int.from_bytes(segment.read(32)[24:32], "little")
                if segment.seek(0, os.SEEK_END) > size > 0:
                    self.footers.add(path)


def kill_in_recovery(program, data, arguments, choose):
    process, _, _ = spawn(program, data, arguments)
    time.sleep(choose.uniform(0, 0.05))
    process.kill()
    process.wait()


def cycle(program, data, arguments, ledger, choose, seen):
    """Start, check, load, kill."""
    if choose.random() < 0.25:
        kill_in_recovery(program, data, arguments, choose)
        seen.in_recovery += 1
    daemon = Daemon(program, data, arguments)
    settle(daemon, ledger)
    daemon.check_undamaged()
    seen.messages += sum(map(len, ledger.contents.values()))
    seen.torn += daemon.info()["torn_tails"]
    load = Load(daemon, ledger, choose)
    time.sleep(choose.uniform(0.05, 0.8))
    seen.copied += daemon.info()["copied_messages"]
    daemon.kill()
    load.join_after_kill()
    seen.kills += 1
    seen.look(data)


def pop_everything(daemon, found):
    """What the queues show is what they give."""
    client = daemon.memcached()
    for queue, bodies in found.items():
        popped = [client.pop(queue.encode()) for _ in range(len(bodies) + 1)]
        assert popped == [*bodies, None], f"{queue} gives other messages than it shows"


def drill(program, directory):
    choose, ledger, seen = seeded(), Ledger(QUEUES), Seen()
    cycles = CYCLES_LONG if is_long() else CYCLES_SHORT
    for policy in POLICIES:
        data = os.path.join(directory, policy)
        arguments = ["--fsync", policy, "--segment-size", str(SEGMENT)]
        for _ in range(cycles):
            cycle(program, data, arguments, ledger, choose, seen)
        daemon = Daemon(program, data, arguments)
        settle(daemon, ledger)
        pop_everything(daemon, ledger.contents)
        assert daemon.stop() == 0
        daemon = Daemon(program, data, [*arguments, "--strict"])
        ledger.contents = contents(daemon, QUEUES)
        assert not any(ledger.contents.values()), "popped messages came back"
        daemon.check_undamaged()
        assert daemon.stop() == 0
        shutil.rmtree(data)
        say(f"{policy}: {cycles} kills, so far {ledger}")
    summarize(f"{seen.kills} kills under load, {seen.in_recovery} in recovery; {ledger}; "
              f"{seen.messages} messages found again, all that had to be there, once, in order; "
              f"{len(seen.segments)} segments, {len(seen.footers)} with footers, "
              f"{seen.copied} messages copied forward, {seen.torn} torn tails, no damage")


run(drill)
