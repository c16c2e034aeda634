"""A daemon on a given directory and its clients, for the fault tests. Standard library only."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time

TIMEOUT_S = 30


class Daemon:
    """A running mqd; `arguments` beside its directory and free ports."""

    def __init__(self, program, directory, arguments=(), environment=None):
        self.log_path = os.path.join(os.environ["WORK"], "mqd.log")
        command = [program, "--dir", directory, "--redis", "127.0.0.1:0",
                   "--memcached", "127.0.0.1:0", *arguments]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, **(environment or {})})
        # A test that fails leaves nothing running.
        atexit.register(self.process.kill)
        self.ports = {}
        for _ in range(2):
            line = self.process.stdout.readline().decode().strip()
            assert " listening on " in line, f"it does not start: {line!r}\n{self.log()}"
            self.ports[line.split()[0]] = int(line.rsplit(":", 1)[1])

    def redis(self):
        return Redis(self.ports["redis"])

    def memcached(self):
        return Memcached(self.ports["memcached"])

    def log(self):
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()[-4000:]

    def check_alive(self):
        status = self.process.poll()
        assert status is None, f"the daemon has ended with {status} (-7 is SIGBUS)\n{self.log()}"

    def kill(self):
        self.check_alive()
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.reader = self.socket.makefile("rb")

    def line(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("disconnected")
        return line[:-2]

    def block(self, length):
        block = self.reader.read(length + 2)
        if len(block) != length + 2:
            raise ConnectionError("disconnected")
        return block[:-2]


class Refused(Exception):
    """An error reply."""


class Redis(Client):
    def send(self, *arguments):
        encoded = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(a), a) for a in encoded]
        self.socket.sendall(b"".join(parts))

    def receive(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b"+":
            return rest.decode()
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.block(int(rest))
        assert kind in b"*~", line
        return [self.receive() for _ in range(int(rest))]

    def ask(self, *arguments):
        self.send(*arguments)
        return self.receive()


class Memcached(Client):
    def set(self, queue, body):
        self.socket.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (queue, len(body), body))
        answer = self.line()
        if answer != b"STORED":
            raise Refused(answer.decode())

    def pop(self, queue):
        self.socket.sendall(b"get %s\r\n" % queue)
        line = self.line()
        if line == b"END":
            return None
        if not line.startswith(b"VALUE "):
            raise Refused(line.decode())
        body = self.block(int(line.rsplit(b" ", 1)[1]))
        assert self.line() == b"END"
        return body


def refusal(work):
    """The error that `work` gets; fails when it gets none."""
    try:
        answer = work()
    except Refused as error:
        return str(error)
    raise AssertionError(f"answered {answer!r}, and an error was expected")


def wait_until(condition, what):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < TIMEOUT_S, f"never: {what}"
        time.sleep(0.05)


def say(text):
    print(f"faults: {text}", flush=True)


def run(test):
    """Runs `test(program, directory)` with the arguments of the command line."""
    test(*sys.argv[1:3])
