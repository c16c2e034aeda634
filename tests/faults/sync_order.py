"""The order of syncs, as the system sees it: what an answer says is on the device before it leaves,
a segment before its successor has a record, a directory after every change in it (rules 8, 12, 13,
15).

Usage: sync_order.py MQD DIRECTORY, where strace can be had.
"""

import os
import re
import shutil
import subprocess
import time

from client import Daemon, run, say, skip, summarize, wait_until

# Of each pop there is also a removal.
PUSHES, POPS = 300, 100

# Where a segment's first record is; before it are the cursors.
RECORDS = 2560


# The tracer is no parent of the daemon (-D), and names the file behind each descriptor (-y). Its
# line of a call is in the trace before the call returns.
STRACE = ("strace", "-D", "-f", "-y", "-e", "signal=none", "-e",
          "trace=mmap,msync,fsync,/^open,/^mkdir,/^unlink,/^rename", "-o")

FD = r"-?\d+<(?P<fd>[^>]*)>"
AT = rf'(?:(?:AT_FDCWD<[^>]*>|-?\d+<(?P<at>[^>]*)>), )?"(?P<name>[^"]*)"'
CALLS = [(call, re.compile(pattern)) for call, pattern in (
    ("mmap", rf"mmap\(.*MAP_SHARED\S*, {FD}, (?P<offset>\w+)\) = (?P<address>0x\w+)"),
    ("msync", r"msync\((?P<address>0x\w+), (?P<length>\d+), MS_SYNC\) += 0"),
    ("fsync", rf"fsync\({FD}\) += 0"),
    ("create", rf"open(?:at)?\({AT}, \S*O_CREAT\S*O_EXCL.* = \d"),
    ("mkdir", rf"mkdir(?:at)?\({AT}, .* = 0"),
    ("unlink", rf"unlink(?:at)?\({AT}.* = 0"),
    ("rename", rf"rename(?:at2?)?\({AT}, .* = 0"),
)]


def whole(lines):
    """The calls in the order of their ends; one that was interrupted by another is put together."""
    begun = {}
    for line in lines:
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
        elif text.startswith("<... "):
            yield begun.pop(thread).rstrip() + text.partition("resumed>")[2]
        else:
            yield text


def traced_calls(lines):
    """Names of calls and paths; behind an "msync" a "reach" with the offset that is synced."""
    mapped = {}
    for text in whole(lines):
        for call, pattern in CALLS:
            found = pattern.match(text)
            if not found:
                continue
            if call == "mmap":
                mapped[int(found["address"], 16)] = (found["fd"], int(found["offset"], 0))
            elif call == "msync":
                address = int(found["address"], 16)
                start = max(start for start in mapped if start <= address)
                path, offset = mapped[start]
                yield call, path
                yield "reach", f"{offset + address - start + int(found['length'])} {path}"
            elif call == "fsync":
                yield call, found["fd"]
            else:
                yield call, os.path.join(found["at"] or "", found["name"])


class Traced:
    """A daemon whose syncs are written down."""

    def __init__(self, program, directory, policy):
        directory = os.path.realpath(directory)
        self.data, self.trace = os.path.join(directory, "data"), os.path.join(directory, "trace")
        open(self.trace, "w").close()
        arguments = ["--fsync", policy, "--segment-size", "64k"]
        self.daemon = Daemon(program, self.data, arguments, under=(*STRACE, self.trace))
        self.client = self.daemon.redis()

    def calls(self):
        with open(self.trace, encoding="utf-8") as trace:
            return list(traced_calls(trace.read().splitlines()))

    def ask(self, *command):
        """The answer, and the calls before the question and from there to the answer."""
        before = len(self.calls())
        answer = self.client.ask(*command)
        # One look: housekeeping goes on, and may have a newer segment at the next.
        calls = self.calls()
        return answer, calls[:before], calls[before:]

    def end(self, directory):
        assert self.daemon.stop() == 0
        shutil.rmtree(self.data)


def newest(calls):
    """The newest segment of the queue that has been synced with a mapping."""
    synced = [path for call, path in calls if call == "msync" and "/q-q/" in path]
    return max(synced, default=None)


def check_answer(before, calls, body=None):
    """An answer: what it says, the message or a cursor, has been synced in the segment that it was
    written to."""
    tail = newest(before + calls)
    assert ("msync", tail) in calls, f"answered before a sync of {tail}: {calls}"
    wanted = RECORDS
    if body is not None:
        with open(tail, "rb") as file:
            found = file.read().find(body)
        assert found >= RECORDS, f"{body} is not in {tail}"
        wanted = found + len(body)
    reaches = [path.split(" ", 1) for call, path in calls if call == "reach"]
    reached = max(int(offset) for offset, path in reaches if path == tail)
    assert reached >= wanted, f"answered with {tail} synced up to {reached} of {wanted}"


def check_directories(calls):
    """Each change in a directory has a sync of it behind it."""
    for index, (call, path) in enumerate(calls):
        if call in ("create", "mkdir", "rename", "unlink"):
            synced = ("fsync", os.path.dirname(path)) in calls[index + 1:]
            assert synced, f"{call} {path}, and its directory is not synced: {calls[index:]}"


def check_rotation(before, after, calls):
    """A new tail: the old one has been synced first."""
    if before is not None and after != before:
        synced = [path for call, path in calls if call == "msync"]
        assert before in synced, f"{after} is in use and {before} is not synced: {calls}"
        assert synced.index(before) < synced.index(after), calls


def answers_wait_for_syncs(program, directory):
    traced = Traced(program, directory, "always")
    rotations = 0
    for number in range(PUSHES):
        answer, before, calls = traced.ask("SADD", "q", b"%01000d" % number)
        assert answer == 1
        check_answer(before, calls, b"%01000d" % number)
        check_rotation(newest(before), newest(before + calls), calls)
        check_directories(calls)
        rotations += newest(before) != newest(before + calls)
    assert rotations > 4, rotations
    for number in range(POPS):
        answer, before, calls = traced.ask("SPOP", "q")
        assert answer == b"%01000d" % number
        check_answer(before, calls)
        answer, before, calls = traced.ask("SREM", "q", b"%01000d" % (PUSHES - 1 - number))
        assert answer == 1
        check_answer(before, calls)
    answer, _, calls = traced.ask("DEL", "q")
    assert answer == 1
    renamed = calls.index(("rename", os.path.join(traced.data, "q-q")))
    assert ("fsync", traced.data) in calls[renamed:], f"dropped, and not durably: {calls}"
    # Segments that died were unlinked, and the unlinks are durable.
    assert any(call == "unlink" for call, _ in traced.calls())
    # What the reaper unlinks of a dropped queue need not be: the next start goes on with it.
    wait_until(lambda: not any(name.startswith("dropped") for name in os.listdir(traced.data)),
               "the dropped queue is unlinked")
    check_directories([call for call in traced.calls() if "/dropped-" not in call[1]])
    traced.end(directory)
    say("always: every answer waited for its sync")
    return PUSHES + 2 * POPS + 1


def rotations_are_synced(program, directory):
    """Under the other policies too: recovery relies on it."""
    traced = Traced(program, directory, "never")
    for number in range(300):
        before = len(traced.calls())
        traced.client.ask("SADD", "q", b"%01000d" % number)
        created = [path for call, path in traced.calls()[before:] if call == "create"]
        check_directories(traced.calls()[before:])
        assert not created or number == 0 or "msync" in dict(traced.calls()), created
    segments = sorted(os.listdir(os.path.join(traced.data, "q-q")))
    synced = {os.path.basename(path) for call, path in traced.calls() if call == "msync"}
    # All but the tail, and segments behind it that have no record yet.
    assert len(synced) >= 4 and synced.issuperset(segments[:len(synced)]), (segments, synced)
    traced.end(directory)
    say("never: a segment is synced before its successor is used")


def idle_queues_are_synced(program, directory):
    traced, longest_s = Traced(program, directory, "everysec"), 0
    for _ in range(3):
        traced.ask("SADD", "q", b"m%f" % time.time())
        before = sum(call == "msync" for call, _ in traced.calls())
        start = time.monotonic()
        wait_until(lambda: sum(call == "msync" for call, _ in traced.calls()) > before,
                   "what was written before the daemon fell idle is synced")
        longest_s = max(longest_s, time.monotonic() - start)
    traced.end(directory)
    say("everysec: what is dirty is synced, idle or not")
    return longest_s


def a_start_syncs_before_it_unlinks(program, directory):
    """What makes a segment dead, a cursor or copies, may not be durable when a start finds it."""
    data = os.path.join(os.path.realpath(directory), "data")
    daemon = Daemon(program, data, ["--segment-size", "64k"])
    client = daemon.redis()
    for number in range(PUSHES):
        client.ask("SADD", "q", b"%01000d" % number)
    folder = os.path.join(data, "q-q")
    oldest = os.path.join(folder, min(os.listdir(folder)))
    with open(oldest, "rb") as file:
        segment = file.read()
    for _ in range(POPS):
        client.ask("SPOP", "q")
    wait_until(lambda: not os.path.exists(oldest), "the oldest segment is unlinked")
    daemon.kill()
    with open(oldest, "wb") as file:
        file.write(segment)
    traced = Traced(program, directory, "always")
    calls = traced.calls()
    before = calls[:calls.index(("unlink", oldest))]
    synced = [path for call, path in before if call == "msync" and path.startswith(folder)]
    assert synced, f"unlinked before a sync: {calls}"
    traced.end(directory)
    say("start: a dead segment is unlinked after a sync of what says so")


def drill(program, directory):
    try:
        # Without -D its exit says whether it may trace.
        command = [word for word in (*STRACE, os.devnull, "true") if word != "-D"]
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        skip(f"no strace: {error}")
    answers = answers_wait_for_syncs(program, directory)
    rotations_are_synced(program, directory)
    a_start_syncs_before_it_unlinks(program, directory)
    longest_s = idle_queues_are_synced(program, directory)
    summarize(f"always: each of {answers} answers left after a sync of what it says; always and "
              "never: a segment is synced before the next is used, a directory after every change; "
              f"everysec: what is dirty is synced while nobody writes, {longest_s:.1f} s later")


run(drill)
