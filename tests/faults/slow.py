"""Clients that take their time. Readers that pipeline a thousand replies of 1 MiB and read none,
writers that send a byte at a time, half commands and half data blocks: each costs bounded memory,
is disconnected after the timeout, and holds up nobody. What was answered to the ones that read, or
that come to an end in time, is there.

Usage: slow.py MQD DIRECTORY
"""

import os
import threading
import time

from client import Daemon, Redis, is_long, run, say, seeded, summarize, wait_until
from ledger import Ledger, Operation
from load import QUEUES, Load, contents, settle

READERS_LONG, READERS_SHORT = 100, 20
WRITERS_LONG, WRITERS_SHORT = 2000, 300
REPLIES = 1000
# The most that a reader may cost: the replies that are kept for it (MAX_OUTPUT), one reply more,
# whose buffer may be twice as large as the reply is, and as much of what it goes on sending.
MAX_OUTPUT, READER_MIB = "1m", 5
# The most that a writer may cost: a buffer of 64 KiB that it has not earned yet (UNEARNED in
# src/server/input.rs), and a client's usual 18 KiB.
WRITER_KIB = 96
# Long enough for a busy machine to serve those who are not slow.
IDLE_TIMEOUT_LONG_S, IDLE_TIMEOUT_SHORT_S = 30, 8


class Watch(threading.Thread):
    """Looks at the daemon's memory all the time."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.daemon_process, self.start_mib = daemon, daemon.memory_mib()
        self.most_mib, self.stopping = 0.0, threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.02):
            self.most_mib = max(self.most_mib, self.daemon_process.memory_mib())

    def stop(self):
        """How many MiB more than at the start there were."""
        self.stopping.set()
        self.join()
        return self.most_mib - self.start_mib


def start(program, data, clients):
    return Daemon(program, data, ["--max-clients", str(clients + 50), "--segment-size", "64k",
                                  "--idle-timeout", str(idle_timeout_s()),
                                  "--max-output", MAX_OUTPUT])


def idle_timeout_s():
    return IDLE_TIMEOUT_LONG_S if is_long() else IDLE_TIMEOUT_SHORT_S


class Reader:
    """Pushes a message before each look at the large queue, and reads no answer."""

    def __init__(self, daemon, number, book):
        self.client, self.operations = daemon.redis(), []
        commands = []
        for place in range(REPLIES):
            body = b"reader%d-%d" % (number, place)
            self.operations.append(Operation("put", "slow", [body]))
            commands += [Redis.encode("SADD", "slow", body), Redis.encode("SMEMBERS", "large")]
        book.extend(self.operations)
        # What the daemon does not read now waits in the kernel, or here.
        self.sender = threading.Thread(
            target=self.send, args=(b"".join(commands),), daemon=True)
        self.sender.start()

    def send(self, commands):
        try:
            self.client.socket.sendall(commands)
        except OSError:
            pass

    def read(self, count, large):
        """Reads some of the answers at last."""
        for operation in self.operations[:count]:
            assert self.client.receive() == 1
            operation.outcome = True
            assert self.client.reader.read(len(large)) == large, "a reply is not whole"


def slow_readers(program, directory, choose, ledger):
    data = os.path.join(directory, "readers")
    count = READERS_LONG if is_long() else READERS_SHORT
    daemon = start(program, data, count)
    messages = [b"%04d" % number + b"x" * 1020 for number in range(1024)]
    assert daemon.redis().ask("SADD", "large", *messages) == len(messages)
    large = b"*1024\r\n" + b"".join(b"$1024\r\n%s\r\n" % message for message in messages)
    watch = Watch(daemon)
    readers = [Reader(daemon, number, ledger.book()) for number in range(count)]
    load = Load(daemon, ledger, choose)
    time.sleep(idle_timeout_s() / 4)
    # The last one reads all the same, and was not forgotten.
    readers[-1].read(REPLIES if is_long() else REPLIES // 10, large)
    wait_until(lambda: daemon.info()["connected_clients"] < 15, "slow readers are disconnected")
    load.stop()
    # While one is connected, what it has sent may still be executed.
    wait_until(lambda: daemon.info()["connected_clients"] == 1, "all readers are disconnected")
    more_mib = watch.stop()
    assert more_mib < count * READER_MIB, f"{count} slow readers took {more_mib:.0f} MiB"
    settle(daemon, ledger)
    daemon.kill()
    daemon = start(program, data, count)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.redis().ask("SPOP", "large") == messages[0]
    assert daemon.redis().ask("DEL", "large", "slow", *QUEUES) > 0
    ledger.contents = contents(daemon, ledger.contents)
    assert daemon.stop() == 0
    say(f"{count} readers of {REPLIES} replies of 1 MiB took {more_mib:.0f} MiB at most")
    return f"{count} readers took {more_mib / count:.1f} MiB each"


# What no slow writer gets executed: its end never comes.
HALVES = (
    b"*3\r\n$4\r\nSADD\r\n$4\r\nhalf\r\n$16000000\r\nabc",
    b"*1000000\r\n$4\r\nSADD\r\n$4\r\nhalf\r\n",
    b"SADD half m",
    b"*3\r\n$4\r\nSA",
)
HALF_TEXTS = (
    b"set half 0 0 16000000\r\nabc",
    b"add half 0 0 10\r\n123456789",
    b"set half 0 0",
    b"get half half half half",
)


def whole(number, is_redis):
    """A whole command, its answer, and the body that it pushes."""
    body = b"writer%d" % number
    if is_redis:
        return Redis.encode("SADD", "slow", body), b":1\r\n", body
    return b"set slow 0 0 %d\r\n%s\r\n" % (len(body), body), b"STORED\r\n", body


class Writer:
    """Sends a byte at a time: a whole command, or half of one and then nothing, or one that has no
    end."""

    def __init__(self, daemon, number, ledger):
        is_redis, self.operation = number % 2 == 0, None
        self.client = daemon.redis() if is_redis else daemon.memcached()
        self.answer, self.is_endless = None, False
        if number % 3 == 0:
            self.rest, self.answer, body = whole(number, is_redis)
            self.operation = Operation("put", "slow", [body])
            ledger.book().append(self.operation)
        else:
            self.rest = (HALVES if is_redis else HALF_TEXTS)[number // 6 % 4]
            self.is_endless = number % 3 == 1

    def drip(self):
        """Sends the next byte; false when there is none, or nobody who takes it."""
        if not self.rest and self.is_endless:
            self.rest = b"x"
        try:
            self.client.socket.sendall(self.rest[:1])
        except OSError:
            return False
        self.rest = self.rest[1:]
        return bool(self.rest) or self.is_endless

    def end(self):
        """Reads until the daemon ends the connection; true for the answer that was hoped for."""
        try:
            received = self.client.reader.read()
        except ConnectionError:
            return False
        if self.operation and received == self.answer:
            self.operation.outcome = True
        return received == self.answer


def slow_writers(program, directory, choose, ledger):
    data = os.path.join(directory, "writers")
    count = WRITERS_LONG if is_long() else WRITERS_SHORT
    daemon = start(program, data, count)
    watch = Watch(daemon)
    writers = [Writer(daemon, number, ledger) for number in range(count)]
    load = Load(daemon, ledger, choose)
    dripping = list(writers)
    while dripping:
        dripping = [writer for writer in dripping if writer.drip()]
        time.sleep(0.01)
    answered = sum([writer.end() for writer in writers])
    load.stop()
    more_mib = watch.stop()
    assert answered > 0, "no slow writer came to its end in time"
    assert more_mib * 1024 < count * WRITER_KIB, f"{count} slow writers took {more_mib:.0f} MiB"
    assert daemon.redis().ask("EXISTS", "half") == 0, "half a command was executed"
    settle(daemon, ledger)
    daemon.kill()
    daemon = start(program, data, count)
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    say(f"{count} writers, {answered} of them answered, took {more_mib:.0f} MiB at most")
    return f"{count} writers {more_mib * 1024 / count:.0f} KiB each"


def drill(program, directory):
    choose, ledger = seeded(), Ledger((*QUEUES, "slow"))
    readers = slow_readers(program, directory, choose, ledger)
    writers = slow_writers(program, directory, choose, ledger)
    summarize(f"{readers}, {writers}, all disconnected in the end; beside them {ledger}; all there")


run(drill)
