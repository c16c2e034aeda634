"""The wall clock is set back and forth, under load and between restarts.

Only stamps, times of expiry, TIME and log lines come from the wall clock; timeouts, syncs and
housekeeping go by a clock that nobody sets. So nothing may be lost, nothing may expire that has not
expired by the clock as it is now, nobody may be disconnected early, and nothing may stop.

Usage: clock.py MQD DIRECTORY, with SHIFTED_CLOCK and TRACING the libraries to preload.
"""

import os
import shutil
import struct
import time

from client import Daemon, is_long, run, say, seeded, summarize, wait_until
from ledger import Ledger
from load import QUEUES, Load, settle

HOUR_S, DAY_S = 3600, 86_400
ROUNDS_LONG, ROUNDS_SHORT = 30, 2
POLICIES = ("always", "everysec", "never")


class Clock:
    """The daemon's wall clock, as a difference from ours."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "clock")
        self.directory, self.times_set = directory, 0
        with open(self.path, "wb") as shift:
            shift.write(bytes(8))
        self.file = os.open(self.path, os.O_WRONLY)

    def set(self, shift_s):
        os.pwrite(self.file, struct.pack("=q", shift_s), 0)
        self.times_set += 1

    def daemon(self, program, *arguments, trace=None):
        libraries = [os.environ["SHIFTED_CLOCK"]]
        environment = {"MQ_CLOCK": self.path}
        if trace:
            libraries.append(os.environ["TRACING"])
            environment["MQ_TRACE"] = trace
        environment["LD_PRELOAD"] = " ".join(libraries)
        data = os.path.join(self.directory, "data")
        return Daemon(program, data, ["--segment-size", "64k", *arguments], environment)

    def clean(self):
        self.set(0)
        shutil.rmtree(os.path.join(self.directory, "data"))


def start_of_1970():
    return 10 - int(time.time())


def messages_expire_by_the_clock_as_it_is(program, clock):
    daemon = clock.daemon(program, "--idle-timeout", "300")
    redis, memcached = daemon.redis(), daemon.memcached()

    def shows(*bodies):
        assert redis.ask("SMEMBERS", "q") == list(bodies)

    memcached.set(b"q", b"for ever")
    memcached.set(b"q", b"100 seconds", 100)
    memcached.set(b"q", b"an hour", int(time.time()) + HOUR_S)
    for shift_s in (-HOUR_S, -DAY_S, start_of_1970(), 50):
        clock.set(shift_s)
        seconds = int(redis.ask("TIME")[0])
        assert abs(seconds - time.time() - shift_s) < 30, "the clock is not ours to set"
        shows(b"for ever", b"100 seconds", b"an hour")
    clock.set(200)
    shows(b"for ever", b"an hour")
    clock.set(2 * HOUR_S)
    shows(b"for ever")
    # A message that is pushed under an early clock lives by that clock.
    clock.set(-DAY_S)
    memcached.set(b"r", b"100 seconds", 100)
    clock.set(-DAY_S + 50)
    assert redis.ask("SMEMBERS", "r") == [b"100 seconds"]
    # Restarts under earlier clocks, and back.
    for shift_s in (-2 * DAY_S, start_of_1970(), 0):
        daemon.kill()
        clock.set(shift_s)
        daemon = clock.daemon(program)
        redis = daemon.redis()
        assert redis.ask("SMEMBERS", "q")[0] == b"for ever"
        expected = [] if shift_s == 0 else [b"100 seconds"]
        assert redis.ask("SMEMBERS", "r") == expected
        daemon.check_undamaged()
    assert daemon.stop() == 0
    clock.clean()


def order_is_that_of_pushing(program, clock):
    """Each message is pushed under an earlier clock, some after a restart."""
    pushed = [b"m%d" % number for number in range(30)]
    daemon = clock.daemon(program)
    for number, body in enumerate(pushed):
        clock.set(-number * HOUR_S)
        if number % 10 == 9:
            assert daemon.stop() == 0
            daemon = clock.daemon(program)
        assert daemon.redis().ask("SADD", "q", body) == 1
    daemon.kill()
    daemon = clock.daemon(program)
    popper = daemon.memcached()
    assert [popper.pop(b"q") for _ in pushed] == pushed
    assert daemon.stop() == 0
    clock.clean()


def timeouts_are_not_of_the_wall_clock(program, clock):
    """The reads below wait for a minute at most: a timeout that stands still fails the drill."""
    daemon = clock.daemon(program, "--idle-timeout", "3")
    idle, half = daemon.redis(), daemon.memcached()
    half.socket.sendall(b"set q 0 0 10\r\nhal")
    clock.set(-DAY_S)
    assert idle.has_ended() and half.has_ended()
    assert daemon.stop() == 0
    daemon = clock.daemon(program, "--idle-timeout", "3000")
    idle = daemon.redis()
    uptimes = []
    for shift_s in (0, DAY_S, -DAY_S):
        clock.set(shift_s)
        assert idle.ask("PING") == "PONG"
        uptimes.append(daemon.info()["uptime_in_seconds"])
    assert uptimes == sorted(uptimes) and uptimes[-1] < HOUR_S, f"uptimes: {uptimes}"
    assert daemon.stop() == 0
    clock.clean()


def work_in_the_background_goes_on(program, clock):
    trace = os.path.join(clock.directory, "trace")
    open(trace, "w").close()
    daemon = clock.daemon(program, "--fsync", "everysec", trace=trace)
    client = daemon.redis()

    def syncs():
        with open(trace, encoding="utf-8") as calls:
            return sum(line.startswith("msync") for line in calls)

    assert client.ask("SADD", "q", "the old one") == 1
    for shift_s in (-HOUR_S, -DAY_S, DAY_S, -2 * DAY_S):
        clock.set(shift_s)
        before = syncs()
        assert client.ask("SADD", "q", f"under {shift_s}") == 1
        wait_until(lambda: syncs() > before, "what is dirty is synced")
    for number in range(400):
        assert client.ask("SADD", "q", b"%01000d" % number) == 1
        assert client.ask("SREM", "q", b"%01000d" % number) == 1
    wait_until(lambda: daemon.info()["copied_messages"] > 0, "old messages are copied forward")
    assert client.ask("SPOP", "q") == b"the old one"
    assert client.ask("SCARD", "q") == 4
    assert daemon.stop() == 0
    os.remove(trace)
    clock.clean()


def load_under_a_clock_that_jumps(program, clock, choose, ledger):
    """Answers the number of restarts."""
    shifts = (0, HOUR_S, -HOUR_S, -DAY_S, 30 * DAY_S, -400 * DAY_S, start_of_1970())
    rounds = ROUNDS_LONG if is_long() else ROUNDS_SHORT
    for policy in POLICIES:
        for _ in range(rounds):
            daemon = clock.daemon(program, "--fsync", policy)
            settle(daemon, ledger)
            daemon.check_undamaged()
            load = Load(daemon, ledger, choose)
            for _ in range(30):
                clock.set(choose.choice(shifts))
                time.sleep(choose.uniform(0, 0.03))
            if choose.random() < 0.5:
                daemon.kill()
                load.join_after_kill()
            else:
                load.stop()
                assert daemon.stop() == 0
            clock.set(choose.choice(shifts))
    daemon = clock.daemon(program)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    clock.clean()
    return rounds * len(POLICIES)


def drill(program, directory):
    choose, clock, ledger = seeded(), Clock(directory), Ledger(QUEUES)
    messages_expire_by_the_clock_as_it_is(program, clock)
    say("messages expire by the clock as it is")
    order_is_that_of_pushing(program, clock)
    say("order is that of pushing, whatever the stamps say")
    timeouts_are_not_of_the_wall_clock(program, clock)
    say("timeouts and uptime are not of the wall clock")
    work_in_the_background_goes_on(program, clock)
    say("syncs and copying go on")
    restarts = load_under_a_clock_that_jumps(program, clock, choose, ledger)
    summarize(f"set {clock.times_set} times, from 1970 to next month, {restarts} restarts under "
              f"load; {ledger}; all there, once, in order, and none expired early")


run(drill)
