"""Clients that do a bit of everything at once, over both protocols, and keep the ledger: SADD,
SPOP, SREM, SMOVE and DEL one by one, in pipelines and between MULTI and EXEC; set, add and get.
"""

import random
import threading

from client import Memcached, Redis, Refused
from ledger import Operation

# Messages go from a queue to a later one, so none comes to a queue twice.
SHARED = ("q0", "q1", "q2", "q3")
CLIENTS = 5
SIZES = (0, 0, 30, 30, 300, 3000)


def private(number):
    """A client's own queue, which it drops now and then."""
    return f"own{number}"


QUEUES = (*SHARED, *(private(number) for number in range(CLIENTS)))


def contents(daemon, queues):
    """What the queues hold, oldest first."""
    client = daemon.redis()
    found = {queue: client.ask("SMEMBERS", queue) for queue in queues}
    client.close()
    return found


def settle(daemon, ledger):
    """Compares what the queues hold with the ledger. A move on its way at a kill may leave a
    message in both queues: it is removed from the first, as its mover would."""
    ledger.settle(contents(daemon, ledger.contents))
    client = daemon.redis()
    for place, queue in enumerate(SHARED):
        later = {body for target in SHARED[place + 1:] for body in ledger.contents[target]}
        for body in [body for body in ledger.contents[queue] if body in later]:
            assert client.ask("SREM", queue, body) == 1
            ledger.contents[queue].remove(body)
    client.close()


class Worker(threading.Thread):
    """One client, with a connection of each protocol. `known`: messages in each queue that nobody
    else removes by value. `tolerated`: a part of the errors that may be answered to a verb."""

    def __init__(self, name, number, daemon, book, seed, known, appetite, tolerated):
        super().__init__(daemon=True)
        self.prefix, self.private = name, private(number)
        self.book, self.choose, self.known = book, random.Random(seed), known
        self.appetite, self.tolerated = appetite, tolerated
        self.redis, self.memcached = daemon.redis(), daemon.memcached()
        self.pushed = self.refused = 0
        self.was_cut_off, self.failure = False, None
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                # Both connections, so that neither is idle.
                self.choose.choice((self.pipeline, self.pipeline, self.transaction))()
                self.texts()
        except ConnectionError:
            self.was_cut_off = True
        except Exception as failure:  # Raised again by the load's owner.
            self.failure = failure
        finally:
            self.redis.close()
            self.memcached.close()

    def enter(self, operation):
        self.book.append(operation)
        return operation

    def new_body(self):
        self.pushed += 1
        return b"%s-%d-%s" % (self.prefix, self.pushed, b"x" * self.choose.choice(SIZES))

    def next_put(self, most):
        queue = self.choose.choice((*SHARED, self.private))
        bodies = [self.new_body() for _ in range(self.choose.randint(1, most))]
        self.known[queue].extend(bodies)
        return Operation("put", queue, bodies)

    def next_pop(self, most):
        return Operation("pop", self.choose.choice(SHARED), count=self.choose.randint(1, most))

    def next_by_value(self):
        """A removal, a move or a drop; None where there is nothing to do it with."""
        place = self.choose.randrange(len(SHARED))
        queue, targets = SHARED[place], SHARED[place + 1:]
        if self.choose.random() < 0.05:
            dropped, self.known[self.private] = self.known[self.private], []
            return Operation("drop", self.private, dropped)
        if not self.known[queue]:
            return None
        body = self.known[queue].pop(self.choose.randrange(len(self.known[queue])))
        if not targets or self.choose.random() < 0.5:
            return Operation("remove", queue, [body])
        target = self.choose.choice(targets)
        self.known[target].append(body)
        return Operation("move", queue, [body], target=target)

    def next_operation(self):
        choice = self.choose.random()
        if choice < 0.25 and (operation := self.next_by_value()):
            return operation
        if choice < 0.25 + 0.75 * self.appetite:
            return self.next_pop(4)
        return self.next_put(4)

    def batch(self):
        count = self.choose.choice((1, 1, 8, 32))
        operations = [self.enter(self.next_operation()) for _ in range(count)]
        return operations, b"".join(Redis.encode(*command(each)) for each in operations)

    def pipeline(self):
        operations, commands = self.batch()
        self.redis.socket.sendall(commands)
        for operation in operations:
            self.settle(operation, self.redis.receive())

    def transaction(self):
        operations, commands = self.batch()
        self.redis.socket.sendall(Redis.encode("MULTI") + commands + Redis.encode("EXEC"))
        answers = [self.redis.receive() for _ in range(1 + len(operations))]
        assert answers == ["OK"] + ["QUEUED"] * len(operations), answers
        head = self.redis.line()
        if head.startswith(b"-EXECABORT"):
            self.discard(operations, head.decode())
            return
        assert head == b"*%d" % len(operations), head
        for operation in operations:
            self.settle(operation, self.redis.receive())

    def discard(self, operations, error):
        """A transaction has done nothing, as one of its queues had no room."""
        assert any(text in error for text in self.tolerated.values()), error
        self.refused += 1
        for operation in operations:
            operation.outcome = [] if operation.verb == "pop" else False
            if operation.verb == "drop":
                # They are there still, and go with the next drop.
                self.known[operation.queue] = operation.bodies + self.known[operation.queue]

    def texts(self):
        operations, sent = [], []
        for _ in range(self.choose.choice((1, 1, 1, 16))):
            operation = self.next_pop(1) if self.choose.random() < 0.5 else self.next_put(1)
            operations.append(self.enter(operation))
            if operation.verb == "pop":
                sent.append(b"get %s\r\n" % operation.queue.encode())
            else:
                verb = self.choose.choice((b"set", b"add"))
                queue, body = operation.queue.encode(), operation.bodies[0]
                sent.append(Memcached.encode_store(verb, queue, body))
        self.memcached.socket.sendall(b"".join(sent))
        for operation in operations:
            if operation.verb == "pop":
                self.settle(operation, self.memcached.receive_value())
                continue
            answer = self.memcached.line()
            self.settle(operation, 1 if answer == b"STORED" else Refused(answer.decode()))

    def settle(self, operation, reply):
        """Writes the answer into the ledger."""
        if isinstance(reply, Refused):
            tolerated = self.tolerated.get(operation.verb)
            assert tolerated and tolerated in str(reply), f"{operation}: {reply}"
            self.refused += 1
            # Several changes may have been refused in the middle of them.
            is_one = operation.verb in ("put", "remove") and len(operation.bodies) == 1
            operation.outcome = [] if operation.verb == "pop" else False if is_one else None
        elif operation.verb == "put":
            assert reply == len(operation.bodies), f"{operation}: {reply} of them were new"
            operation.outcome = True
        elif operation.verb == "pop":
            popped = reply if isinstance(reply, list) else [reply]
            operation.outcome = [body for body in popped if body is not None]
        elif operation.verb == "drop":
            operation.outcome = True
        else:
            operation.outcome = reply == 1


def command(operation):
    """An operation as Redis knows it."""
    queue, bodies = operation.queue, operation.bodies
    match operation.verb:
        case "put":
            return ["SADD", queue, *bodies]
        case "pop":
            return ["SPOP", queue] if operation.count == 1 else ["SPOP", queue, operation.count]
        case "remove":
            return ["SREM", queue, *bodies]
        case "move":
            return ["SMOVE", queue, operation.target, *bodies]
    return ["DEL", queue]


class Load:
    """Workers at work on a daemon, which is to hold what the ledger says. `appetite`: how much of
    what they do is popping."""

    rounds = 0

    def __init__(self, daemon, ledger, choose, tolerated=(), appetite=None):
        Load.rounds += 1
        # About as much is popped as is pushed, so that queues grow and fall empty.
        waiting = sum(map(len, ledger.contents.values()))
        if appetite is None:
            appetite = 0.7 if waiting > 3000 else choose.uniform(0.2, 0.7)
        self.workers = []
        for number in range(CLIENTS):
            known = {queue: bodies[number::CLIENTS] for queue, bodies in ledger.contents.items()}
            known[private(number)] = list(ledger.contents[private(number)])
            self.workers.append(Worker(
                b"%d.%d" % (Load.rounds, number), number, daemon, ledger.book(),
                choose.randrange(1 << 30), known, appetite, dict(tolerated)))
        for worker in self.workers:
            worker.start()

    def refused(self):
        """How many errors were answered and tolerated."""
        return sum(worker.refused for worker in self.workers)

    def join(self):
        for worker in self.workers:
            worker.join(120)
            assert not worker.is_alive(), "a client waits for an answer"
            if worker.failure:
                raise worker.failure

    def stop(self):
        """Lets the workers finish what they have in hand."""
        for worker in self.workers:
            worker.stopping.set()
        self.join()
        cut_off = [worker.prefix for worker in self.workers if worker.was_cut_off]
        assert not cut_off, f"disconnected: {cut_off}"

    def join_after_kill(self):
        self.join()
        assert all(worker.was_cut_off for worker in self.workers), "a client ended before the kill"
