"""Storms of connections: thousands that come and go, more at once than there may be, most of them
cut off by a reset in the middle of a command. What was answered is there; what was never whole, or
was told that there are too many clients, was never done; and nothing of the storm stays behind.

Usage: storms.py MQD DIRECTORY
"""

import os
import random
import threading
import time

from client import Daemon, Memcached, Redis, Refused, is_long, run, seeded, summarize, wait_until
from ledger import Ledger, Operation
from load import contents

CONNECTIONS_LONG, CONNECTIONS_SHORT = 30_000, 2400
POLICIES = ("always", "everysec", "never")
STORMERS = 24
MAX_CLIENTS = 16
# Threads that sync queues side by side: they start with their first work, and stay.
SYNCERS = 8
# Nobody pops from the first, so that nothing in doubt can hide what is lost.
KEPT, POPPED = "kept", "popped"
TOO_MANY = (b"-ERR max number of clients reached", b"SERVER_ERROR too many open connections")


class Stormer(threading.Thread):
    """Connects again and again, does a little, and breaks off somehow."""

    def __init__(self, daemon, ledger, count, number, seed):
        super().__init__(daemon=True)
        self.server, self.ledger, self.count, self.number = daemon, ledger, count, number
        self.choose = random.Random(seed)
        self.bodies = self.refused = self.resets = 0
        self.failure = None

    def run(self):
        try:
            for _ in range(self.count):
                kinds = (self.nothing, self.redis, self.redis, self.memcached, self.transaction)
                self.choose.choice(kinds)()
        except Exception as failure:  # Raised again by the storm's owner.
            self.failure = failure

    def operations(self, verbs):
        """A few things to do, in a book of this connection's own."""
        book = self.ledger.book()
        for _ in range(self.choose.randint(1, 12)):
            if self.choose.choice(verbs) == "pop":
                book.append(Operation("pop", POPPED, count=1))
                continue
            self.bodies += 1
            queue = self.choose.choice((KEPT, POPPED))
            body = b"%d-%d-%d" % (self.server.process.pid, self.number, self.bodies)
            book.append(Operation("put", queue, [body]))
        return book

    def end(self, client, half):
        """Breaks off: with a half command and a reset, or in an orderly way."""
        if self.choose.random() < 0.6:
            self.resets += 1
            try:
                client.socket.sendall(half)
            except OSError:
                pass
            client.reset()
        else:
            client.close()

    def nothing(self):
        client = self.choose.choice((self.server.redis, self.server.memcached))()
        time.sleep(self.choose.choice((0, 0, 0.02)))
        self.end(client, b"")

    def converse(self, client, commands, operations, answer):
        """Sends everything and reads a part of the answers."""
        try:
            client.socket.sendall(commands)
            for operation in operations[:self.choose.randint(0, len(operations))]:
                answer(operation)
        except TooMany:
            self.refused += 1
            for operation in operations:
                operation.outcome = [] if operation.verb == "pop" else False
        except ConnectionError:
            # The refusal itself may have been lost in a reset.
            pass

    def redis(self):
        client, operations = self.server.redis(), self.operations(("put", "put", "pop"))
        commands = b"".join(
            Redis.encode("SPOP", POPPED) if operation.verb == "pop"
            else Redis.encode("SADD", operation.queue, *operation.bodies)
            for operation in operations)

        def answer(operation):
            reply = client.receive()
            check_admitted(str(reply).encode(), b"-")
            if operation.verb == "pop":
                operation.outcome = [] if reply is None else [reply]
            else:
                assert reply == 1, reply
                operation.outcome = True

        self.converse(client, commands, operations, answer)
        self.end(client, Redis.encode("SADD", KEPT, "never whole")[:-3])

    def memcached(self):
        client, operations = self.server.memcached(), self.operations(("put",))
        commands = b"".join(
            Memcached.encode_store(b"set", operation.queue.encode(), operation.bodies[0])
            for operation in operations)

        def answer(operation):
            line = client.line()
            check_admitted(line, b"")
            assert line == b"STORED", line
            operation.outcome = True

        self.converse(client, commands, operations, answer)
        self.end(client, b"set kept 0 0 11\r\nnever whol")

    def transaction(self):
        """Never comes to its EXEC."""
        client, operations = self.server.redis(), self.operations(("put",))
        commands = Redis.encode("MULTI") + b"".join(
            Redis.encode("SADD", operation.queue, *operation.bodies) for operation in operations)
        for operation in operations:
            operation.outcome = False
        try:
            client.socket.sendall(commands)
        except ConnectionError:
            pass
        self.end(client, Redis.encode("EXEC")[:-1])


class TooMany(Exception):
    """There are as many clients as there may be."""


def check_admitted(reply, sign):
    if sign + reply in TOO_MANY:
        raise TooMany


def is_calm(daemon, before):
    """Nobody but the one who asks is there, and nothing of the others."""
    try:
        connected = daemon.info()["connected_clients"]
    except (Refused, ConnectionError):
        return False
    return connected == 1 and daemon.open_files() <= before


def storm(program, data, policy, ledger, choose):
    count = CONNECTIONS_LONG if is_long() else CONNECTIONS_SHORT
    arguments = ["--max-clients", str(MAX_CLIENTS), "--fsync", policy, "--segment-size", "64k"]
    daemon = Daemon(program, data, arguments)
    ledger.settle(contents(daemon, ledger.contents))
    files, threads = daemon.open_files(), daemon.status("Threads")
    stormers = [Stormer(daemon, ledger, count // STORMERS, number, choose.randrange(1 << 30))
                for number in range(STORMERS)]
    for stormer in stormers:
        stormer.start()
    for stormer in stormers:
        stormer.join(600)
        assert not stormer.is_alive(), "a client of the storm waits for the daemon"
        if stormer.failure:
            raise stormer.failure
    wait_until(lambda: is_calm(daemon, files + 1), "the storm is over")
    wait_until(lambda: daemon.status("Threads") <= threads + SYNCERS, "no thread stays behind")
    ledger.settle(contents(daemon, ledger.contents))
    daemon.kill()
    daemon = Daemon(program, data, arguments)
    ledger.settle(contents(daemon, ledger.contents))
    daemon.check_undamaged()
    assert daemon.stop() == 0
    return (sum(stormer.refused for stormer in stormers),
            sum(stormer.resets for stormer in stormers), sum(map(len, ledger.contents.values())))


def drill(program, directory):
    choose, ledger = seeded(), Ledger((KEPT, POPPED))
    data = os.path.join(directory, "data")
    refused = resets = messages = 0
    for policy in POLICIES:
        outcome = storm(program, data, policy, ledger, choose)
        refused, resets, messages = refused + outcome[0], resets + outcome[1], outcome[2]
    count = (CONNECTIONS_LONG if is_long() else CONNECTIONS_SHORT) // STORMERS * STORMERS
    summarize(f"{count * len(POLICIES)} connections, {resets} of them reset, {refused} told that "
              f"there are too many; {ledger}; {messages} messages there, none lost, none that was "
              f"never whole")


run(drill)
