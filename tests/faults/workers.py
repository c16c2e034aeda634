"""Workers that lease their jobs lose none: they die between getting a job and acknowledging it,
they fall silent until the lease is over and acknowledge late, and the daemon is killed under them
again and again. What was pushed is acknowledged by somebody, is with one worker at a time, and does
not come back once an acknowledgement was answered.

Usage: workers.py MQD DIRECTORY
"""

import os
import random
import subprocess
import threading
import time

from client import TIMEOUT_S, Daemon, Memcached, Redis, Refused, is_long, run, say, seeded, \
    summarize
from deliveries import Deliveries, Delivery

JOBS_LONG, JOBS_SHORT = 200_000, 10_000
KILLS_LONG, KILLS_SHORT = 60, 6
WORKERS = 32
LEASE_S = 1
QUEUE = "jobs"
# Small segments, so that the kills meet rotations and dead segments.
ARGUMENTS = ["--fsync", "always", "--lease", str(LEASE_S), "--segment-size", "64k"]
SIZES = (0, 0, 30, 30, 300, 3000)


class Service:
    """The daemon, wherever it is: it is killed, and started again on other ports."""

    def __init__(self, program, data):
        self.program, self.data = program, data
        self.daemon, self.starts = None, 0
        self.changed = threading.Condition()

    def start(self, *arguments):
        daemon = Daemon(self.program, self.data, [*ARGUMENTS, *arguments])
        with self.changed:
            self.daemon, self.starts = daemon, self.starts + 1
            self.changed.notify_all()

    def kill(self):
        with self.changed:
            daemon, self.daemon = self.daemon, None
        daemon.kill()

    def connect(self, protocol, first):
        """A connection to the daemon of the start `first` or a later one, and which it is."""
        with self.changed:
            is_there = self.changed.wait_for(
                lambda: self.daemon and self.starts >= first, TIMEOUT_S)
            assert is_there, "disconnected by a daemon that nobody has killed"
            # Nobody kills it meanwhile, so no other program has its ports.
            client = {"redis": self.daemon.redis, "memcached": self.daemon.memcached}[protocol]()
            return client, self.starts


class Person(threading.Thread):
    """Somebody who works with the daemon, and connects again when it was killed."""

    protocol = "redis"

    def __init__(self, service, seed):
        super().__init__(daemon=True)
        self.service, self.choose = service, random.Random(seed)
        self.client, self.start_number, self.failure = None, 0, None
        self.stopping = threading.Event()

    def run(self):
        try:
            self.connect(0)
            while not self.is_done():
                try:
                    self.round()
                except ConnectionError:
                    self.connect(self.start_number + 1)
            self.client.close()
        except Exception as failure:  # Raised again by the drill.
            self.failure = failure

    def connect(self, first):
        if self.client:
            self.client.close()
        self.client, self.start_number = self.service.connect(self.protocol, first)

    def is_done(self):
        return self.stopping.is_set()

    def finish(self):
        self.join(TIMEOUT_S)
        assert not self.is_alive(), "a client waits for an answer"
        if self.failure:
            raise self.failure


class Producer(Person):
    """Pushes until `wanted` pushes were answered. A push in doubt is not repeated."""

    def __init__(self, service, seed, number, wanted):
        super().__init__(service, seed)
        self.number, self.wanted, self.pushed, self.answered = number, wanted, [], []

    def is_done(self):
        return len(self.answered) >= self.wanted or super().is_done()

    def new_bodies(self):
        count = min(self.choose.choice((1, 4, 16)), self.wanted - len(self.answered))
        start = len(self.pushed)
        self.pushed += [b"%d-%d-%s" % (self.number, start + each, b"x" * self.choose.choice(SIZES))
                        for each in range(count)]
        return self.pushed[start:]


class AddJobProducer(Producer):
    def round(self):
        bodies = self.new_bodies()
        self.client.socket.sendall(
            b"".join(Redis.encode("ADDJOB", QUEUE, body, 0) for body in bodies))
        for body in bodies:
            reply = self.client.receive()
            assert isinstance(reply, str) and reply.startswith("D-"), reply
            self.answered.append(body)


class SaddProducer(Producer):
    def round(self):
        bodies = self.new_bodies()
        assert self.client.ask("SADD", QUEUE, *bodies) == len(bodies)
        self.answered += bodies


class SetProducer(Producer):
    protocol = "memcached"

    def round(self):
        bodies = self.new_bodies()
        self.client.socket.sendall(
            b"".join(Memcached.encode_store(b"set", QUEUE.encode(), body) for body in bodies))
        for body in bodies:
            answer = self.client.line()
            assert answer == b"STORED", answer
            self.answered.append(body)


class Worker(Person):
    """Gets jobs and acknowledges them, unless it dies or falls silent."""

    def __init__(self, service, seed):
        super().__init__(service, seed)
        self.deliveries, self.acknowledged = [], 0
        self.deaths = self.silences = 0

    def happens(self, percent):
        return self.choose.random() * 100 < percent

    def given(self, body, sent):
        self.deliveries.append(Delivery(body, self.start_number, sent, LEASE_S))
        return self.deliveries[-1]

    def die(self):
        """Drops the connection; another worker takes this one's place."""
        self.deaths += 1
        self.choose.choice((self.client.close, self.client.reset))()
        self.connect(self.start_number)

    def fall_silent(self):
        """Until the lease is over."""
        self.silences += 1
        time.sleep(LEASE_S * self.choose.uniform(1, 1.5))

    def find_nothing(self):
        self.stopping.wait(0.02)


class RedisWorker(Worker):
    def __init__(self, service, seed):
        super().__init__(service, seed)
        # Pairs of an id and its delivery.
        self.jobs, self.extended, self.late = [], 0, 0

    def round(self):
        # Those of before a kill: their ids are good for acknowledgements still.
        left, self.jobs = self.jobs, []
        if left and self.happens(50):
            self.late += len(left)
            self.acknowledge(left)
        sent = time.monotonic()
        # Most often they wait, so that kills and deaths meet jobs on their way to those who do.
        how = ("TIMEOUT", 20) if self.happens(80) else ("NOHANG",)
        self.client.send("GETJOB", *how, "COUNT", self.choose.randint(1, 5), "FROM", QUEUE)
        if self.happens(1):
            self.die()
            return
        reply = self.client.receive()
        if isinstance(reply, Refused):
            raise reply
        self.jobs = [(job, self.given(body, sent)) for _, job, body in reply]
        if self.jobs:
            self.work()
            self.jobs = []
        else:
            self.find_nothing()

    def work(self):
        if self.happens(10):
            self.say_working(*self.choose.choice(self.jobs))
        if self.happens(2):
            self.die()
            return
        if self.happens(1):
            self.fall_silent()
        if self.happens(20):
            for job in self.jobs:
                self.acknowledge([job])
        else:
            self.acknowledge(self.jobs)

    def say_working(self, job, delivery):
        sent = time.monotonic()
        try:
            seconds = self.client.ask("WORKING", job)
        except Refused as error:
            # Too late, or another one who had it before has acknowledged it.
            assert str(error).startswith("NOJOB"), error
            return
        assert seconds == LEASE_S, seconds
        delivery.extend(sent + LEASE_S)
        self.extended += 1

    def acknowledge(self, jobs):
        pending = [delivery.acknowledge() for _, delivery in jobs]
        count = self.client.ask("ACKJOB", *(job for job, _ in jobs))
        assert 0 <= count <= len(jobs), count
        for acknowledgement in pending:
            acknowledgement.answer({0: False, len(jobs): True}.get(count))
        self.acknowledged += count


class MemcachedWorker(Worker):
    protocol = "memcached"

    def __init__(self, service, seed):
        super().__init__(service, seed)
        self.item = None

    def connect(self, first):
        self.item = None
        super().connect(first)

    def round(self):
        acknowledgement = self.item and self.item.acknowledge()
        opens = not self.item or self.happens(80)
        options = (b"/close" if self.item else b"") + (b"/open" if opens else b"")
        options += b"/t=20" if self.happens(80) else b""
        sent = time.monotonic()
        self.client.socket.sendall(b"get %s%s\r\n" % (QUEUE.encode(), options))
        if not self.item and self.happens(1):
            self.die()
            return
        body = self.client.receive_value()
        if isinstance(body, Refused):
            raise body
        if acknowledgement:
            acknowledgement.answer()
            self.acknowledged += 1
        self.item = None if body is None else self.given(body, sent)
        if self.item:
            self.work()
        elif opens:
            self.find_nothing()

    def work(self):
        if self.happens(2):
            # The end of the connection gives it back.
            self.item.release()
            self.die()
        elif self.happens(0.5):
            self.fall_silent()


class Crew:
    """Everybody, and how far they are."""

    def __init__(self, service, choose, jobs):
        kinds = 2 * (AddJobProducer, SaddProducer, SetProducer)
        seeds = iter(lambda: choose.randrange(1 << 30), None)
        self.producers = [
            kind(service, next(seeds), number, jobs // len(kinds) + (number < jobs % len(kinds)))
            for number, kind in enumerate(kinds)]
        self.workers = [(RedisWorker, MemcachedWorker)[number % 2](service, next(seeds))
                        for number in range(WORKERS)]
        self.service = service
        self.people = (*self.producers, *self.workers)
        for person in self.people:
            person.start()

    def acknowledged(self):
        return sum(worker.acknowledged for worker in self.workers)

    def total(self, name):
        return sum(getattr(worker, name, 0) for worker in self.workers)

    def wait_until(self, condition, what):
        """However long it takes, while anything goes on."""
        before, since = -1, time.monotonic()
        while not condition():
            self.service.daemon.check_alive()
            for person in self.people:
                if person.failure:
                    raise person.failure
            if (now := self.acknowledged()) != before:
                before, since = now, time.monotonic()
            assert time.monotonic() - since < TIMEOUT_S, f"never: {what}; {now} acknowledged"
            time.sleep(0.02)

    def finish(self):
        for worker in self.workers:
            worker.stopping.set()
        for person in self.people:
            person.finish()
        return Deliveries((body for producer in self.producers for body in producer.pushed),
                          (body for producer in self.producers for body in producer.answered),
                          (worker.deliveries for worker in self.workers))


def check_empty(daemon):
    """Nothing waits, nothing is leased, and there is no queue."""
    client = daemon.redis()
    found = [client.ask(*command) for command in (
        ("QLEN", QUEUE), ("EXISTS", QUEUE), ("TYPE", QUEUE), ("DBSIZE",), ("KEYS", "*"),
        ("GETJOB", "NOHANG", "FROM", QUEUE))]
    client.close()
    assert found == [0, 0, "none", 0, [], []], found
    daemon.check_undamaged()


def verify(program, data):
    dump = os.path.join(os.path.dirname(program), "mq-dump")
    done = subprocess.run([dump, "--dir", data, "verify"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and "no damage" in done.stdout, done.stdout


def drill(program, directory):
    choose, data = seeded(), os.path.join(directory, "data")
    jobs, kills = (JOBS_LONG, KILLS_LONG) if is_long() else (JOBS_SHORT, KILLS_SHORT)
    service = Service(program, data)
    service.start()
    crew = Crew(service, choose, jobs)
    for number in range(kills):
        goal = int((number + choose.uniform(0.2, 1)) * jobs / (kills + 1))
        crew.wait_until(lambda: crew.acknowledged() >= goal, f"{goal} of {jobs} acknowledged")
        service.kill()
        service.start()
    say(f"{kills} kills, {crew.acknowledged()} of {jobs} jobs are acknowledged")
    crew.wait_until(lambda: not any(map(threading.Thread.is_alive, crew.producers)), "all pushed")
    asking = service.daemon.redis()
    # What is leased counts here.
    crew.wait_until(lambda: asking.ask("EXISTS", QUEUE) == 0, "the queue is empty")
    asking.close()
    deliveries = crew.finish()
    deliveries.check()
    check_empty(service.daemon)
    service.kill()
    service.start("--strict")
    check_empty(service.daemon)
    assert service.daemon.stop() == 0
    verify(program, data)
    summarize(f"{kills} kills under {WORKERS} workers, of which {crew.total('deaths')} died and "
              f"{crew.total('silences')} fell silent; {deliveries}; {crew.total('extended')} "
              f"leases extended, {crew.total('late')} jobs acknowledged after a kill; none lost, "
              f"none with two workers at once, none came back, no damage")


run(drill)
