"""Too few descriptors: more queues and clients than files may be open, and then a limit that is
lowered under the running daemon.

What cannot be had is refused with an error that says so; nobody hangs, nothing that was answered is
lost, the clients that are there go on, and when files can be had again everything is served: also
the queues that had been refused.

Usage: descriptors.py MQD DIRECTORY
"""

import os
import resource
import time

from client import Daemon, Refused, is_long, run, say, seeded, spawn, summarize, wait_until
from ledger import VERBS, Ledger
from load import QUEUES, Load, settle

CLIENTS = 32
# What the daemon wants beside its clients.
RESERVE = 64
ROUNDS_LONG, ROUNDS_SHORT = 30, 2
QUEUES_LONG, QUEUES_SHORT = 5000, 500
ARGUMENTS = ["--max-clients", str(CLIENTS), "--segment-size", "64k"]
NO_FILES = "Too many open files"


def a_limit_that_is_too_low_is_said_at_the_start(program, directory):
    process, log_path, start = spawn(program, os.path.join(directory, "low"), ARGUMENTS,
                                     open_files=CLIENTS + RESERVE - 1)
    assert process.wait(60) == 1
    with open(log_path, encoding="utf-8") as log:
        log.seek(start)
        complaint = log.read()
    assert "ulimit -n" in complaint and complaint.count("\n") == 1, complaint


def too_many(program, directory):
    """As many clients as there may be, more queues than files; answers what was pushed."""
    data = os.path.join(directory, "many")
    limit = CLIENTS + RESERVE
    daemon = Daemon(program, data, ARGUMENTS, open_files=limit)
    count = QUEUES_LONG if is_long() else QUEUES_SHORT
    # One place is left for questions to the daemon.
    clients = [daemon.redis() for _ in range(CLIENTS - 1)]
    for number in range(count):
        clients[number % len(clients)].send("SADD", f"many{number}", "m")
    for number in range(count):
        assert clients[number % len(clients)].receive() == 1
    most = daemon.open_files()
    last = daemon.redis()
    for _ in range(100):
        refused = daemon.redis()
        assert refused.line() == b"-ERR max number of clients reached" and refused.has_ended()
    assert all(client.ask("PING") == "PONG" for client in [*clients, last])
    daemon.kill()
    daemon = Daemon(program, data, ARGUMENTS, open_files=limit)
    client = daemon.redis()
    assert client.ask("DBSIZE") == count
    for number in range(count):
        assert client.ask("SPOP", f"many{number}") == b"m"
    daemon.check_undamaged()
    assert daemon.stop() == 0
    say(f"{count} queues and {CLIENTS} clients with {limit} files, {most} of them open")
    return count


class Pressure:
    """A daemon whose limit of open files is lowered to what is open, or a few more."""

    def __init__(self, daemon):
        self.pid = daemon.process.pid
        _, self.hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        self.open_files = daemon.open_files

    def press(self, room):
        limit = self.open_files() + room
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, self.hard))

    def release(self):
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (self.hard, self.hard))


def ask_for(daemon, pressure):
    """Without a descriptor left: what needs none is served, what needs one is refused."""
    old, waiting = daemon.redis(), []
    assert old.ask("SADD", "small", "a", "b", "c") == 3
    assert old.ask("SADD", "dropped", "m") == 1
    pressure.press(0)
    refused = 0
    for _ in range(3):
        try:
            old.ask("SADD", "new", "m")
        except Refused as error:
            assert NO_FILES in str(error), error
            refused += 1
    assert refused == 3, "a new queue takes files, and there are none"
    assert old.ask("PING") == "PONG"
    assert old.ask("SADD", "small", "d") == 1
    assert old.ask("SPOP", "small") == b"a"
    assert old.ask("SREM", "small", "c") == 1
    assert old.ask("DEL", "dropped") == 1
    # These come into the kernel's queue of connections, and are served when files can be had again.
    processor_s = processor_time(daemon)
    for _ in range(20):
        waiting.append(daemon.redis())
        waiting[-1].send("SADD", "late", f"m{len(waiting)}")
    time.sleep(0.5)
    assert processor_time(daemon) - processor_s < 0.25, "waiting for descriptors takes a processor"
    pressure.release()
    # One may have come in with a descriptor that was free for a moment, and found none for its
    # queue.
    answers = [client.receive() for client in waiting]
    late = [answer for answer in answers if answer != 1]
    assert len(late) <= 1 and all(NO_FILES in str(answer) for answer in late), answers
    assert old.ask("SADD", "new", "m") == 1
    assert old.ask("SMEMBERS", "new") == [b"m"]
    assert old.ask("SCARD", "dropped") == 0
    assert old.ask("SMEMBERS", "small") == [b"b", b"d"]
    assert old.ask("DEL", "new", "small", "late") == 3
    for client in [old, *waiting]:
        client.close()


def processor_time(daemon):
    with open(f"/proc/{daemon.process.pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load_under_pressure(program, directory, choose, ledger):
    """Mixed work while the limit goes down and up; answers refusals and restarts."""
    data = os.path.join(directory, "pressed")
    rounds, refused = ROUNDS_LONG if is_long() else ROUNDS_SHORT, 0
    policies = ("always", "everysec", "never")
    for policy in policies * rounds:
        daemon = Daemon(program, data, [*ARGUMENTS, "--fsync", policy])
        settle(daemon, ledger)
        daemon.check_undamaged()
        pressure = Pressure(daemon)
        load = Load(daemon, ledger, choose, dict.fromkeys(VERBS, NO_FILES))
        for _ in range(5):
            pressure.press(choose.choice((0, 0, 0, 1, 2)))
            time.sleep(choose.uniform(0, 0.1))
            if choose.random() < 0.5:
                pressure.release()
                time.sleep(choose.uniform(0, 0.05))
        if choose.random() < 0.3:
            daemon.kill()
            load.join_after_kill()
            refused += load.refused()
            continue
        pressure.release()
        load.stop()
        refused += load.refused()
        # Nothing is left closed behind the pressure.
        client = daemon.redis()
        for queue in QUEUES:
            assert client.ask("SADD", queue, "probe") == 1, queue
            assert client.ask("SREM", queue, "probe") == 1, queue
        settle(daemon, ledger)
        assert daemon.stop() == 0
    daemon = Daemon(program, data, ARGUMENTS)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    return refused, len(policies) * rounds


def drill(program, directory):
    choose, ledger = seeded(), Ledger(QUEUES)
    a_limit_that_is_too_low_is_said_at_the_start(program, directory)
    count = too_many(program, directory)
    data = os.path.join(directory, "none")
    daemon = Daemon(program, data, ARGUMENTS)
    ask_for(daemon, Pressure(daemon))
    say("without a descriptor old clients go on, new ones wait and are served later")
    refused, restarts = load_under_pressure(program, directory, choose, ledger)
    wait_until(lambda: not any(name.startswith("dropped") for name in os.listdir(data)),
               "what was dropped without a descriptor is unlinked later")
    assert daemon.stop() == 0
    summarize(f"{count} queues within {CLIENTS + RESERVE} files; {ledger} under a limit that "
              f"falls to what is open; {refused} errors, {restarts} restarts, nothing lost and "
              f"nothing left closed")


run(drill)
