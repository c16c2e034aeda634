"""kill -9 in the middle of the work: kill.py MQD, the path of the daemon.

Four redis-py producers push, half of them in pipelines, until the daemon is killed. After a restart
pymemcache pops half of the queue, the daemon is killed again, and after another restart pymemcache
pops the rest. Every acknowledged message must come once, in its producer's order; what was on the
way when the daemon died may come or not. Done for each --fsync policy.
"""

import atexit
import subprocess
import sys
import tempfile
import threading
import time

import redis
from expect import expect, fail
from pymemcache.client.base import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

PRODUCERS = 4
ENOUGH = 4000


class Daemon:
    """An mqd on a directory and on ports of its own choice."""

    def __init__(self, directory, policy):
        command = [sys.argv[1], "--dir", directory, "--fsync", policy,
                   "--redis", "127.0.0.1:0", "--memcached", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        self.ports = {}
        while len(self.ports) < 2:
            line = self.process.stdout.readline()
            if not line:
                fail(f"mqd ended at its start with {self.process.wait()}")
            name, _, address = line.partition(" listening on ")
            self.ports[name] = int(address.rpartition(":")[2])

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()


class Producer(threading.Thread):
    """Pushes `name:0`, `name:1`, ... until the connection breaks."""

    def __init__(self, name, port, batch):
        super().__init__(daemon=True)
        self.name, self.batch = name, batch
        self.acknowledged = self.sent = 0
        self.cut_off = False
        self.client = redis.Redis(port=port, retry=Retry(NoBackoff(), 0), socket_timeout=30)

    def run(self):
        try:
            while True:
                with self.client.pipeline(transaction=False) as pipe:
                    for _ in range(self.batch):
                        pipe.sadd("jobs", f"{self.name}:{self.sent}")
                        self.sent += 1
                    expect("pushes", pipe.execute(), [1] * self.batch)
                self.acknowledged += self.batch
        except redis.ConnectionError:
            self.cut_off = True


def push_until_killed(daemon):
    """The producers, ended by the death of the daemon."""
    producers = [Producer(f"p{n}", daemon.ports["redis"], 1 if n % 2 else 50)
                 for n in range(PRODUCERS)]
    for producer in producers:
        producer.start()
    deadline = time.monotonic() + 60
    while sum(counts := [p.acknowledged for p in producers]) < ENOUGH or 0 in counts:
        if time.monotonic() > deadline or not all(p.is_alive() for p in producers):
            fail(f"the producers stopped or were too slow, pushes answered: {counts}")
        time.sleep(0.01)
    daemon.kill()
    for producer in producers:
        producer.join(30)
        expect(f"{producer.name} ran until the kill", producer.cut_off, True)
    return producers


def pop(daemon, most):
    """Up to `most` messages, oldest first."""
    client = Client(("127.0.0.1", daemon.ports["memcached"]), timeout=30)
    messages = []
    while len(messages) < most and (message := client.get("jobs")) is not None:
        messages.append(message.decode())
    return messages


def check(policy, producers, messages):
    """Compare what came out with what each producer knows."""
    strangers = len(messages)
    for producer in producers:
        got = [m for m in messages if m.startswith(f"{producer.name}:")]
        want = [f"{producer.name}:{n}" for n in range(len(got))]
        expect(f"{policy}: messages of {producer.name}, once and in order", got, want)
        if not producer.acknowledged <= len(got) <= producer.sent:
            fail(f"{policy}: {producer.name} sent {producer.sent}, was answered for"
                 f" {producer.acknowledged}, and {len(got)} came out")
        strangers -= len(got)
    expect(f"{policy}: messages that nobody pushed", strangers, 0)


def main():
    """Push, kill, pop half, kill, pop the rest; each policy on a fresh directory."""
    for policy in ("always", "everysec", "never"):
        with tempfile.TemporaryDirectory() as directory:
            producers = push_until_killed(Daemon(directory, policy))
            daemon = Daemon(directory, policy)
            messages = pop(daemon, ENOUGH // 2)
            daemon.kill()
            daemon = Daemon(directory, policy)
            messages += pop(daemon, sys.maxsize)
            daemon.kill()
            check(policy, producers, messages)


main()
