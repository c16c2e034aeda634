"""A daemon on a given directory and its clients, for the fault drills. Standard library only.

What every drill relies on: a daemon that panicked, or that speaks of damage, fails the drill.
"""

import atexit
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

TIMEOUT_S = 120

# The exit status of a drill that could not be done.
SKIPPED = 77

# What a start may not find: no drill damages a file.
DAMAGE = ("damaged_records", "lost_messages")


class Daemon:
    """A running mqd; `arguments` beside its directory and free ports. `open_files`: the limit that
    it is started with. `under`: a command that becomes the daemon, and what it does to it."""

    def __init__(self, program, directory, arguments=(), environment=None, open_files=None,
                 under=()):
        self.process, self.log_path, self.log_start = spawn(
            program, directory, arguments, environment, open_files, under)
        self.ports = {}
        for _ in range(2):
            line = self.process.stdout.readline().decode().strip()
            assert " listening on " in line, f"it does not start: {line!r}\n{self.log()}"
            self.ports[line.split()[0]] = int(line.rsplit(":", 1)[1])

    def redis(self, source=None):
        return Redis(self.ports["redis"], source)

    def memcached(self, source=None):
        return Memcached(self.ports["memcached"], source)

    def info(self):
        """INFO: names and values, numbers as numbers."""
        lines = self.redis().ask("INFO").decode().splitlines()
        pairs = (line.split(":", 1) for line in lines if ":" in line)
        return {name: int(value) if value.isdigit() else value for name, value in pairs}

    def status(self, field):
        """A number of /proc/PID/status, "VmRSS" in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(rf"^{field}:\s+(\d+)", status.read(), re.M).group(1))

    def memory_mib(self):
        """Memory of its own: heap and stacks, without files and their mappings."""
        return self.status("RssAnon") / 1024

    def cpu_ticks(self):
        """CPU time that it has used, in ticks of the system's clock (100 a second)."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
        return int(user) + int(system)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def log(self):
        """What this daemon has logged."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def check_alive(self):
        status = self.process.poll()
        assert status is None, f"the daemon has ended with {status} (-7 is SIGBUS)\n{self.log()}"

    def check_undamaged(self):
        info = self.info()
        found = {name: info[name] for name in DAMAGE if info[name] != 0}
        assert not found, f"damage that nobody did: {found}\n{self.log()}"

    def kill(self):
        """kill -9."""
        self.check_alive()
        self.process.kill()
        self.process.wait()
        self.check_log()

    def stop(self):
        """SIGTERM; answers the exit status."""
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(TIMEOUT_S)
        self.check_log()
        return status

    def check_log(self):
        assert "panicked" not in self.log(), self.log()


def spawn(program, directory, arguments=(), environment=None, open_files=None, under=()):
    """Starts an mqd and does not wait; answers the process, its log and where that starts."""
    command = [*under, program, "--dir", directory, "--redis", "127.0.0.1:0",
               "--memcached", "127.0.0.1:0", *arguments]
    if open_files is not None:
        command = ["sh", "-c", f'ulimit -n {open_files} && exec "$@"', "sh", *command]
    log_path = os.path.join(os.environ["WORK"], "mqd.log")
    with open(log_path, "ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            env={**os.environ, **(environment or {})})
    # A drill that fails leaves nothing running.
    atexit.register(process.kill)
    return process, log_path, log_start


class Client:
    """A connection, from the address `source` if there is one."""

    def __init__(self, port, source=None):
        source = (source, 0) if source else None
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S, source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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

    def close(self):
        self.reader.close()
        self.socket.close()

    def reset(self):
        """Ends the connection with a reset, in place of an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def has_ended(self):
        """Waits for the daemon's end of the connection."""
        try:
            return self.reader.read(1) == b""
        except ConnectionError:
            return True


class Refused(Exception):
    """An error reply."""


class Redis(Client):
    @staticmethod
    def encode(*arguments):
        encoded = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(a), a) for a in encoded]
        return b"".join(parts)

    def send(self, *arguments):
        self.socket.sendall(self.encode(*arguments))

    def receive(self):
        """A reply; an error is answered and not raised."""
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            return Refused(rest.decode())
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
        reply = self.receive()
        if isinstance(reply, Refused):
            raise reply
        return reply


class Memcached(Client):
    @staticmethod
    def encode_store(verb, queue, body, exptime=0):
        return b"%s %s 0 %d %d\r\n%s\r\n" % (verb, queue, exptime, len(body), body)

    def receive_value(self):
        """The reply to a `get` of one queue: a body, None, or an error."""
        line = self.line()
        if line == b"END":
            return None
        if not line.startswith(b"VALUE "):
            return Refused(line.decode())
        body = self.block(int(line.rsplit(b" ", 1)[1]))
        assert self.line() == b"END"
        return body

    def set(self, queue, body, exptime=0):
        self.socket.sendall(self.encode_store(b"set", queue, body, exptime))
        answer = self.line()
        if answer != b"STORED":
            raise Refused(answer.decode())

    def pop(self, queue):
        self.socket.sendall(b"get %s\r\n" % queue)
        reply = self.receive_value()
        if isinstance(reply, Refused):
            raise reply
        return reply


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
    print(f"faults:   {text}", flush=True)


def summarize(text):
    """One line of what was proven, shown at the end of all drills."""
    say(text)
    with open(os.path.join(os.environ["WORK"], "proven"), "w", encoding="utf-8") as proven:
        proven.write(f"{text}\n")


def skip(reason):
    """Ends a drill that this system does not allow."""
    with open(os.path.join(os.environ["WORK"], "why"), "w", encoding="utf-8") as why:
        why.write(f"{reason}\n")
    sys.exit(SKIPPED)


def is_long():
    """Whether this is the long form."""
    return os.environ.get("MQ_FAULTS_LONG") == "1"


def seeded():
    """The choices of a drill: MQ_TEST_SEED repeats them."""
    seed = int(os.environ.get("MQ_TEST_SEED") or random.randrange(1 << 30))
    say(f"MQ_TEST_SEED={seed}")
    return random.Random(seed)


def run(drill):
    """Runs `drill(program, directory)` with the arguments of the command line."""
    # Also a drill that takes too long leaves nothing running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    drill(*sys.argv[1:3])
