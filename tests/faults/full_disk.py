"""A full file system: pushes are refused with an error that names it, everything else goes on,
popping makes room, and a kill at the worst moment loses nothing (rule 6).

Usage: full_disk.py MQD DIRECTORY, where DIRECTORY is a small file system of its own.
"""

import os
import random
import shutil
import sys
import time

from client import Daemon, Refused, refusal, run, say, wait_until

ARGUMENTS = ["--segment-size", "256k"]


def body(number, size=1000):
    return b"%08d" % number + b"x" * (size - 8)


def fill(client, queue, number, size=1000):
    """Pushes until an error comes; answers the next number, and the error."""
    while True:
        try:
            assert client.ask("SADD", queue, body(number, size)) == 1
        except Refused as error:
            return number, str(error)
        number += 1


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
    assert "disk is full" in error, error
    error = refusal(lambda: daemon.memcached().set(queue.encode(), body(99_999_999)))
    assert error.startswith("SERVER_ERROR ") and "disk is full" in error, error


def drain(daemon, queue):
    client, bodies = daemon.memcached(), []
    while (popped := client.pop(queue.encode())) is not None:
        bodies.append(popped)
    return bodies


def main_path(program, directory, policy):
    """From the first push to a full disk, to a kill, and back to room."""
    data = os.path.join(directory, "data")
    arguments = [*ARGUMENTS, "--fsync", policy]
    daemon = Daemon(program, data, arguments)
    client = daemon.redis()
    for number in range(50):
        client.ask("SADD", "other", body(number))
    count, error = fill(client, "q", 0)
    assert "disk is full" in error, error
    take_the_rest(directory)
    say(f"{policy}: full after {count} messages: {error}")
    check_refused(daemon, "new")
    # Small ones may still fit into what is allocated; in the end they do not.
    small, _ = fill(client, "small", 0, 8)
    small_in_q, _ = fill(client, "q", 20_000_000, 8)
    check_refused(daemon, "q")
    # Everything else goes on.
    live = [body(number) for number in range(count)]
    live += [body(number, 8) for number in range(20_000_000, small_in_q)]
    assert client.ask("PING") == "PONG"
    assert client.ask("SCARD", "q") == len(live)
    assert client.ask("SISMEMBER", "q", live[count // 2]) == 1
    assert client.ask("SISMEMBER", "q", b"nothing") == 0
    assert client.ask("SRANDMEMBER", "q") == live[0]
    assert daemon.memcached().pop(b"other") == body(0)
    daemon.check_alive()
    # Removing from anywhere, as often as there are messages: each has its room.
    choice = random.sample(range(len(live)), len(live) // 3)
    for index in choice:
        assert client.ask("SREM", "q", live[index]) == 1
    gone = set(choice)
    live = [item for index, item in enumerate(live) if index not in gone]
    daemon.kill()

    say(f"{policy}: killed at the full moment, {len(live)} messages must be there")
    take_the_rest(directory)
    daemon = Daemon(program, data, arguments)
    client = daemon.redis()
    assert client.ask("SMEMBERS", "q") == live, "lost, twice or out of order"
    assert client.ask("SCARD", "other") == 49
    assert client.ask("SCARD", "small") == small
    # Popping makes room again, and not only at the end.
    popped = 0
    while True:
        try:
            assert client.ask("SADD", "q", body(30_000_000)) == 1
            break
        except Refused as error:
            assert "disk is full" in str(error), error
        assert live, "popping never made room"
        assert client.ask("SPOP", "q") == live.pop(0)
        popped += 1
    say(f"{policy}: room again after {popped} pops")
    live.append(body(30_000_000))
    assert client.ask("DEL", "q") == 1
    # A dropped queue's files go in the background.
    wait_until(lambda: not any(name.startswith("dropped") for name in os.listdir(data)),
               "the dropped queue is unlinked")
    refilled, error = fill(client, "again", 0)
    assert "disk is full" in error and refilled > count // 4, (refilled, error)
    daemon.check_alive()
    # An empty queue on a full disk takes messages again.
    take_the_rest(directory)
    assert len(drain(daemon, "again")) == refilled
    assert client.ask("SADD", "again", body(1)) == 1
    assert daemon.stop() == 0
    daemon = Daemon(program, data, [*arguments, "--strict"])
    assert drain(daemon, "again") == [body(1)]
    assert daemon.stop() == 0


def worst_moments(program, directory, seed):
    """Random work around the full moment, and a kill at any moment of it."""
    say(f"seed {seed}")
    choose = random.Random(seed)
    data = os.path.join(directory, "data")
    live, burst, number = [], [], 0
    for _ in range(12):
        daemon = Daemon(program, data, ARGUMENTS)
        client = daemon.redis()
        # Of what was not answered any part may be there, in its order.
        found = client.ask("SMEMBERS", "q")
        survived = [item for item in burst if item in set(found)]
        assert found == live + survived, f"seed {seed}: lost, twice or out of order"
        live = found
        for _ in range(choose.randrange(50, 400)):
            what = choose.randrange(10)
            if what < 6:
                item = body(number, choose.choice([8, 300, 3000, 50_000]))
                number += 1
                try:
                    client.ask("SADD", "q", item)
                    live.append(item)
                except Refused as error:
                    assert "disk is full" in str(error), error
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


def clean(directory):
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name != "lost+found":
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def test(program, directory):
    for policy in ("always", "everysec", "never"):
        main_path(program, directory, policy)
        clean(directory)
    given = [int(seed) for seed in sys.argv[3:]]
    seeds = given or [random.randrange(1 << 30) for _ in range(3)]
    for seed in seeds:
        worst_moments(program, directory, seed)
        clean(directory)


run(test)
