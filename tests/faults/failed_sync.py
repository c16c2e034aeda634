"""A device that fails to sync: nobody is told what is not durable, later writes are refused
until the restart, reading goes on, and the restart serves what was answered before (rule 9).

Usage: failed_sync.py MQD DIRECTORY, with FAILING_SYNC the library to preload.
"""

import os
import shutil
import time

from client import Daemon, Refused, refusal, run, say, summarize, wait_until


def start(program, data, policy, fail):
    environment = {"LD_PRELOAD": os.environ["FAILING_SYNC"], "MQ_FAIL": fail}
    return Daemon(program, data, ["--fsync", policy], environment)


def positive(work):
    """What `work` is answered; None: an error or the end of the connection."""
    try:
        return work()
    except (Refused, OSError):
        return None


def check_said(daemon):
    """One line says which queue is closed, and what the system has answered."""
    def said():
        return [line for line in daemon.log().splitlines() if "closed for writing" in line]

    # Log lines are written by a thread of their own.
    wait_until(said, "a line says which queue is closed")
    lines = said()
    assert len(lines) == 1, daemon.log()
    assert "Input/output error" in lines[0] and "q-q is closed" in lines[0], lines


def check_named(daemon):
    """INFO says which queue is closed, and of no other that it is."""
    def closed():
        text = daemon.redis().ask("INFO", "queues").decode()
        return [line.split(":")[0] for line in text.splitlines() if ",closed=1" in line]

    wait_until(lambda: closed() == ["queue_q"], "INFO says which queue is closed")


def check_closed_for_writing(daemon):
    """Every write is refused, and every read is answered."""
    check_named(daemon)
    client = daemon.redis()
    for _ in range(2):
        for command in (["SADD", "q", "later"], ["SPOP", "q"], ["SREM", "q", "m3"]):
            error = refusal(lambda: client.ask(*command))
            assert "sync" in error and "restart" in error, error
        error = refusal(lambda: daemon.memcached().set(b"q", b"later"))
        assert error.startswith("SERVER_ERROR "), error
    assert client.ask("PING") == "PONG"
    assert client.ask("SISMEMBER", "q", "m3") == 1
    assert client.ask("SMEMBERS", "q")[:10] == [b"m%d" % number for number in range(10)]


def check_after_restart(program, data, policy, doubtful):
    daemon = Daemon(program, data, ["--fsync", policy, "--strict"])
    client = daemon.redis()
    left = client.ask("SMEMBERS", "q")
    durable = [b"m%d" % number for number in range(10)]
    assert left[:10] == durable and left[10:] in ([], doubtful), left
    assert client.ask("SADD", "q", "writable") == 1
    assert daemon.stop() == 0


def under_always(program, directory):
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    for command in (["SADD", "q", "doubtful"], ["SPOP", "q"], ["SREM", "q", "m5"]):
        daemon = start(program, data, "always", fail)
        client = daemon.redis()
        for number in range(10):
            assert client.ask("SADD", "q", f"m{number}") == 1
        assert client.ask("SADD", "fine", "m") == 1
        open(fail, "w").close()
        assert positive(lambda: client.ask(*command)) is None, f"{command}: answered, not durable"
        os.remove(fail)
        check_said(daemon)
        # The device is well again: a sync that is tried again would lie.
        error = refusal(lambda: daemon.redis().ask("SADD", "q", "later"))
        assert "restart" in error, error
        # Another queue has nothing to do with it.
        assert daemon.redis().ask("SADD", "fine", "n") == 1
        if command[0] == "SADD":
            check_closed_for_writing(daemon)
        daemon.kill()
        if command[0] == "SADD":
            check_after_restart(program, data, "always", [b"doubtful"])
        shutil.rmtree(data)
    say("always: nobody was told what was not durable")


def under_everysec(program, directory):
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    daemon = start(program, data, "everysec", fail)
    client = daemon.redis()
    for number in range(10):
        assert client.ask("SADD", "q", f"m{number}") == 1
    open(fail, "w").close()

    def is_closed():
        return positive(lambda: daemon.redis().ask("SADD", "q", "doubtful")) is None

    wait_until(is_closed, "a failed sync closes the queue")
    check_closed_for_writing(daemon)
    os.remove(fail)
    check_closed_for_writing(daemon)
    # What was answered since the last good sync may be lost: that is no clean stop.
    assert daemon.stop() == 1, daemon.log()
    check_after_restart(program, data, "everysec", [b"doubtful"])
    shutil.rmtree(data)
    say("everysec: the failed sync closed the queue")


def of_a_new_segment(program, directory):
    """What makes a file durable is a sync of its queue, and is not tried again either."""
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    daemon = start(program, data, "never", fail)
    client = daemon.redis()
    assert client.ask("SADD", "q", "m") == client.ask("SADD", "fine", "m") == 1
    open(fail, "w").close()
    error = refusal(lambda: client.ask("SADD", "q", "needs a segment" * 2000))
    assert "sync" in error, error
    os.remove(fail)
    check_said(daemon)
    for command in (["SADD", "q", "later"], ["SPOP", "q"]):
        error = refusal(lambda: client.ask(*command))
        assert "restart" in error, error
    assert client.ask("SMEMBERS", "q") == [b"m"] and client.ask("SADD", "fine", "n") == 1
    assert daemon.stop() == 1, daemon.log()
    shutil.rmtree(data)
    say("a new segment: the failed sync closed the queue")


def while_a_segment_fills(program, directory):
    """Housekeeping syncs a segment that is half full: nobody waits for that, and it counts."""
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    daemon = start(program, data, "never", fail)
    client = daemon.redis()

    def push(numbers):
        # One by one: those of one command would take a segment of their own, with a sync.
        for number in numbers:
            if positive(lambda: client.ask("SADD", "q", f"m{number}".ljust(1000, "x"))) != 1:
                return number
        return numbers.stop

    # Those before the segment of 512 KiB are synced when they are full, and are too small for more.
    assert push(range(200)) == 200
    open(fail, "w").close()
    pushed = push(range(200, 440))
    assert pushed > 200

    def is_closed():
        return "closed for writing" in daemon.log()

    wait_until(is_closed, "housekeeping syncs what fills")
    os.remove(fail)
    check_said(daemon)
    for command in (["SADD", "q", "later"], ["SPOP", "q"]):
        error = refusal(lambda: client.ask(*command))
        assert "restart" in error, error
    assert client.ask("SCARD", "q") == pushed and client.ask("SADD", "fine", "n") == 1
    assert daemon.stop() == 1, daemon.log()
    shutil.rmtree(data)
    say("while a segment fills: the failed sync closed the queue")


def of_the_data_directory(program, directory):
    """Which queues there are is not known any more: all of them are closed for writing."""
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    cases = (["DEL", "q"], "always"), (["FLUSHALL"], "everysec"), (["SADD", "new", "m"], "everysec")
    for command, policy in cases:
        daemon = start(program, data, policy, fail)
        client = daemon.redis()
        assert client.ask("SADD", "q", "m") == client.ask("SADD", "other", "m") == 1
        with open(fail, "w", encoding="utf-8") as file:
            file.write(os.path.realpath(data))
        # A drop is answered once the directory is synced, or before that under everysec.
        answer = positive(lambda: client.ask(*command))
        assert (answer is None) == (command[0] != "FLUSHALL"), answer
        wait_until(lambda: "closed for writing" in daemon.log(), "all queues are closed")
        os.remove(fail)
        client = daemon.redis()
        left = client.ask("SMEMBERS", "other")
        assert left == ([] if command[0] == "FLUSHALL" else [b"m"]), left
        for write in (["SADD", "other", "n"], ["SPOP", "other"], ["SADD", "another", "m"]):
            if left or write[0] != "SPOP":
                error = refusal(lambda: client.ask(*write))
                assert "restart" in error, error
        if left:
            error = refusal(lambda: client.ask("DEL", "other"))
            assert "restart" in error, error
        # Those who only read have nothing to do with it.
        for _ in range(30):
            assert client.ask("SCARD", "other") == len(left)
            time.sleep(0.1)
        assert daemon.log().count("all queues are closed for writing") == 1, daemon.log()
        # And at most one line for each queue that was dirty then.
        assert daemon.log().count("a sync failed") <= 2, daemon.log()
        assert daemon.stop() == 1, daemon.log()
        daemon = Daemon(program, data, ["--strict"])
        assert daemon.redis().ask("SADD", "q", "writable") == 1
        assert daemon.stop() == 0
        shutil.rmtree(data)
    say("a queue dropped or made: the failed sync closed all queues")


def at_the_stop(program, directory):
    """The last sync fails: the exit status says so."""
    data, fail = os.path.join(directory, "data"), os.path.join(directory, "fail")
    daemon = start(program, data, "never", fail)
    assert daemon.redis().ask("SADD", "q", "m") == 1
    open(fail, "w").close()
    assert daemon.stop() == 1, daemon.log()
    os.remove(fail)
    shutil.rmtree(data)
    say("never: a failed sync at the stop is an exit status of 1")


def drill(program, directory):
    under_always(program, directory)
    under_everysec(program, directory)
    of_a_new_segment(program, directory)
    while_a_segment_fills(program, directory)
    of_the_data_directory(program, directory)
    at_the_stop(program, directory)
    summarize("always: SADD, SPOP and SREM were not answered when their sync failed; all policies: "
              "the queue was closed for writing until the restart, others went on; what was "
              "answered before was there; a sync of the data directory that failed closed all")


run(drill)
