"""A full file system: pushes are refused with an error that names it, everything else goes on,
popping makes room, and a kill at the worst moment loses nothing (rule 6).

Usage: full_disk.py MQD DIRECTORY, where DIRECTORY is a small file system of its own.
"""

import os
import shutil
import time

from client import Daemon, Refused, is_long, refusal, run, say, seeded, summarize, wait_until
from ledger import Ledger
from load import QUEUES, Load, settle

ARGUMENTS = ["--segment-size", "256k"]
POLICIES = ("always", "everysec", "never")
FULL = "disk is full"
# Popping, removing and dropping are never refused.
REFUSALS = dict.fromkeys(("put", "move"), FULL)
ROUNDS_LONG, ROUNDS_SHORT = 60, 4
KILLS_LONG, KILLS_SHORT = 100, 8
# Commands that are sent at once.
BATCH = 64


def body(number, size=1000):
    return b"%08d" % number + b"x" * (size - 8)


def ask_all(client, commands):
    """The answers to many commands, sent a batch at a time."""
    answers = []
    for start in range(0, len(commands), BATCH):
        batch = commands[start:start + BATCH]
        client.socket.sendall(b"".join(client.encode(*command) for command in batch))
        answers += [client.receive() for _ in batch]
    return answers


def fill(client, queue, number, size=1000):
    """Pushes until an error comes; answers what was pushed, and the error."""
    pushed, errors = [], []
    while not errors:
        batch = [body(number + index, size) for index in range(BATCH)]
        number += BATCH
        answers = ask_all(client, [["SADD", queue, item] for item in batch])
        errors = [str(answer) for answer in answers if answer != 1]
        pushed += [item for item, answer in zip(batch, answers) if answer == 1]
    assert all(FULL in error for error in errors), errors
    return pushed, errors[0]


def take_the_rest(directory):
    """Leaves not a block free."""
    with open(os.path.join(directory, "filler"), "ab", buffering=0) as filler:
        for size in (65536, 4096, 512):
            try:
                while filler.write(b"\0" * size):
                    pass
            except OSError:
                pass


def check_refused(daemon, queue):
    error = refusal(lambda: daemon.redis().ask("SADD", queue, body(99_999_999)))
    assert FULL in error, error
    error = refusal(lambda: daemon.memcached().set(queue.encode(), body(99_999_999)))
    assert error.startswith("SERVER_ERROR ") and FULL in error, error


def drain(daemon, queue):
    client, bodies = daemon.memcached(), []
    while True:
        client.socket.sendall(b"get %s\r\n" % queue.encode() * BATCH)
        popped = [client.receive_value() for _ in range(BATCH)]
        bodies += [item for item in popped if item is not None]
        if popped[-1] is None:
            return bodies


def work_on_a_full_disk(daemon, directory, policy, choose):
    """From the first push to a full disk; answers what is in the queues then."""
    client = daemon.redis()
    assert ask_all(client, [["SADD", "other", body(number)] for number in range(50)]) == [1] * 50
    live, error = fill(client, "q", 0)
    take_the_rest(directory)
    say(f"{policy}: full after {len(live)} messages: {error}")
    check_refused(daemon, "new")
    # Small ones may still fit into what is allocated; in the end they do not.
    small, _ = fill(client, "small", 0, 8)
    live += fill(client, "q", 20_000_000, 8)[0]
    check_refused(daemon, "q")
    # Hundreds of pushes were refused, and the log says that it begins.
    told = [line for line in daemon.log().splitlines() if " WARN  the disk is full: " in line]
    assert 1 <= len(told) <= 10, told
    # Everything else goes on.
    assert client.ask("PING") == "PONG"
    assert client.ask("SCARD", "q") == len(live)
    assert client.ask("SISMEMBER", "q", live[len(live) // 2]) == 1
    assert client.ask("SISMEMBER", "q", b"nothing") == 0
    assert client.ask("SRANDMEMBER", "q") == live[0]
    assert daemon.memcached().pop(b"other") == body(0)
    # Removing from anywhere, as often as there are messages: each has its room.
    gone = set(choose.sample(live, len(live) // 3))
    assert set(ask_all(client, [["SREM", "q", item] for item in gone])) == {1}
    # And many by one command, whose records lie in one file.
    left = [item for item in live if item not in gone]
    many = choose.sample(left, len(left) // 3)
    assert client.ask("SREM", "q", *many) == len(many)
    gone.update(many)
    return [item for item in live if item not in gone], small


def make_room(client, live):
    """Pops until a push is taken again; answers how many pops that took."""
    popped = 0
    while True:
        try:
            assert client.ask("SADD", "q", body(30_000_000)) == 1
            return popped
        except Refused as error:
            assert FULL in str(error), error
        assert live, "popping never made room"
        assert client.ask("SPOP", "q") == live.pop(0)
        popped += 1


def main_path(program, directory, policy, choose):
    """To a full disk, to a kill, and back to room."""
    data = os.path.join(directory, "data")
    arguments = [*ARGUMENTS, "--fsync", policy]
    daemon = Daemon(program, data, arguments)
    live, small = work_on_a_full_disk(daemon, directory, policy, choose)
    daemon.kill()
    say(f"{policy}: killed at the full moment, {len(live)} messages must be there")
    take_the_rest(directory)
    daemon = Daemon(program, data, arguments)
    client = daemon.redis()
    assert client.ask("SMEMBERS", "q") == live, "lost, twice or out of order"
    assert client.ask("SMEMBERS", "small") == small
    assert client.ask("SCARD", "other") == 49
    count = len(live)
    # Popping makes room again, and not only at the end.
    say(f"{policy}: room again after {make_room(client, live)} pops")
    assert client.ask("DEL", "q") == 1
    # A dropped queue's files go in the background.
    wait_until(lambda: not any(name.startswith("dropped") for name in os.listdir(data)),
               "the dropped queue is unlinked")
    refilled, _ = fill(client, "again", 0)
    assert len(refilled) > count // 4, len(refilled)
    # An empty queue on a full disk takes messages again.
    take_the_rest(directory)
    assert drain(daemon, "again") == refilled
    assert client.ask("SADD", "again", body(1)) == 1
    assert daemon.stop() == 0
    daemon = Daemon(program, data, [*arguments, "--strict"])
    assert drain(daemon, "again") == [body(1)]
    daemon.check_undamaged()
    assert daemon.stop() == 0


def worst_moments(program, directory, choose, kills):
    """Random work around the full moment, and a kill at any moment of it."""
    data = os.path.join(directory, "data")
    live, burst, number = [], [], 0
    for _ in range(kills):
        daemon = Daemon(program, data, ARGUMENTS)
        client = daemon.redis()
        # Of what was not answered any part may be there, in its order.
        found = client.ask("SMEMBERS", "q")
        survived = [item for item in burst if item in set(found)]
        assert found == live + survived, "lost, twice or out of order"
        live = found
        for _ in range(choose.randrange(50, 200)):
            what = choose.randrange(10)
            if what < 6:
                item = body(number, choose.choice([8, 300, 3000, 50_000]))
                number += 1
                try:
                    client.ask("SADD", "q", item)
                    live.append(item)
                except Refused as error:
                    assert FULL in str(error), error
            elif what < 7 and live:
                assert client.ask("SPOP", "q") == live.pop(0)
            elif live:
                item = live.pop(choose.randrange(len(live)))
                assert client.ask("SREM", "q", item) == 1
        burst = [body(number + index, choose.choice([8, 300, 3000])) for index in range(100)]
        number += len(burst)
        for item in burst:
            client.send("SADD", "q", item)
        time.sleep(choose.random() / 100)
        daemon.kill()


def load_on_a_full_disk(program, directory, choose, ledger):
    """Mixed work of many clients until the disk is full and a while longer, and a kill; answers how
    often they were refused."""
    data = os.path.join(directory, "data")
    refused = 0
    with open(os.path.join(directory, "filler"), "wb") as filler:
        status = os.statvfs(directory)
        filler.write(b"\0" * int(status.f_bavail * status.f_frsize * 0.8))
    for round_number in range(ROUNDS_LONG if is_long() else ROUNDS_SHORT):
        daemon = Daemon(program, data, [*ARGUMENTS, "--fsync", POLICIES[round_number % 3]])
        settle(daemon, ledger)
        daemon.check_undamaged()
        load = Load(daemon, ledger, choose, REFUSALS, appetite=choose.uniform(0.1, 0.4))
        wait_until(load.refused, "the disk is full")
        time.sleep(choose.uniform(0, 0.5))
        daemon.kill()
        load.join_after_kill()
        refused += load.refused()
    daemon = Daemon(program, data, ARGUMENTS)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    return refused


def clean(directory):
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name != "lost+found":
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def drill(program, directory):
    choose, ledger = seeded(), Ledger(QUEUES)
    policies = POLICIES if is_long() else [choose.choice(POLICIES)]
    for policy in policies:
        main_path(program, directory, policy, choose)
        clean(directory)
    kills = KILLS_LONG if is_long() else KILLS_SHORT
    worst_moments(program, directory, choose, kills)
    clean(directory)
    refused = load_on_a_full_disk(program, directory, choose, ledger)
    summarize(f"{os.path.basename(directory)}: pops, removals and drops went on with no byte free, "
              f"under {', '.join(policies)}, and made room; {kills} kills at full moments; {ledger} "
              f"with {refused} pushes refused, and killed; nothing lost")


run(drill)
