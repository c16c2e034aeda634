"""10,000 clients that say nothing, and a few beside them that work: what the idle ones cost, and
that nobody notices them.

Usage: idle.py MQD DIRECTORY
"""

import os
import resource
import socket
import time

from client import Daemon, is_long, run, say, seeded, skip, summarize, wait_until
from ledger import Ledger
from load import CLIENTS, QUEUES, Load, settle

IDLE = 10_000
# Each worker of the load has a connection of each protocol; some are for questions.
OTHERS = 2 * CLIENTS + 10
# What the daemon may take with all of them, its program included.
MAX_RESIDENT_MIB = 60
# Its workers, and its threads beside them: listeners, signals, log lines, syncs and upkeep.
WORKERS, MAX_OTHER_THREADS = 2, 8
# What the daemon may have run while nobody said a word, in clock ticks: its upkeep looks around.
IDLE_SECONDS, MAX_TICKS = 3, 2
# As many connections come from one address as a range of ports has with room to spare.
PER_ADDRESS = 10_000
SECONDS_LONG, SECONDS_SHORT = 60, 3


def raise_open_files(wanted):
    """For this process and the daemon; answers whether it can be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            return False
    elif soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return True


def connect(daemon, number):
    """One of many: without buffers of its own, from an address that has ports left."""
    protocol = ("redis", "memcached")[number % 2]
    source = f"127.0.0.{1 + number // PER_ADDRESS}"
    return socket.create_connection(("127.0.0.1", daemon.ports[protocol]), 60, (source, 0))


def speak(client, number):
    """One command and its answer."""
    command, answer = ((b"PING\r\n", b"+PONG\r\n"), (b"scard none\r\n", b"0\r\n"))[number % 2]
    client.sendall(command)
    assert client.recv(100) == answer


def work(daemon, ledger, choose):
    """Mixed work for a while; answers operations per second."""
    before, start = ledger.answered.total(), time.monotonic()
    load = Load(daemon, ledger, choose)
    time.sleep(SECONDS_LONG if is_long() else SECONDS_SHORT)
    load.stop()
    seconds = time.monotonic() - start
    settle(daemon, ledger)
    return round((ledger.answered.total() - before) / seconds)


def drill(program, directory):
    choose, ledger = seeded(), Ledger(QUEUES)
    wanted = IDLE + OTHERS + 100
    if not raise_open_files(wanted):
        skip(f"the system does not allow {wanted} open files")
    daemon = Daemon(program, os.path.join(directory, "data"),
                    ["--max-clients", str(IDLE + OTHERS), "--idle-timeout", "0",
                     "--workers", str(WORKERS)])
    before_mib = daemon.memory_mib()
    start = time.monotonic()
    clients = [connect(daemon, number) for number in range(IDLE)]
    wait_until(lambda: daemon.info()["connected_clients"] > IDLE, "all are admitted")
    say(f"{IDLE} clients connected in {time.monotonic() - start:.1f} s")
    for number, client in enumerate(clients):
        speak(client, number)
    each_kib = (daemon.memory_mib() - before_mib) * 1024 / IDLE
    resident_mib, threads = daemon.status("VmRSS") / 1024, daemon.status("Threads")
    assert resident_mib <= MAX_RESIDENT_MIB, f"{resident_mib:.0f} MiB resident"
    most = WORKERS + MAX_OTHER_THREADS
    assert threads <= most, f"{threads} threads, {most} at most"
    # That nothing happens has no event to wait for.
    ticks = daemon.cpu_ticks()
    time.sleep(IDLE_SECONDS)
    ticks = daemon.cpu_ticks() - ticks
    assert ticks <= MAX_TICKS, f"{ticks} ticks in {IDLE_SECONDS} s that nobody asked for"
    beside = work(daemon, ledger, choose)
    # There is room for the others and for nobody else.
    others = [daemon.redis() for _ in range(OTHERS)]
    refused = daemon.redis()
    assert refused.line() == b"-ERR max number of clients reached" and refused.has_ended()
    for client in others:
        client.close()
    # All of them go at once.
    for client in clients:
        client.close()
    wait_until(lambda: daemon.info()["connected_clients"] < 5, "all are gone")
    settle(daemon, ledger)
    daemon.kill()
    daemon = Daemon(program, os.path.join(directory, "data"))
    settle(daemon, ledger)
    daemon.check_undamaged()
    assert daemon.stop() == 0
    summarize(f"{IDLE} clients: {each_kib:.1f} KiB each, {resident_mib:.0f} MiB resident, "
              f"{threads} threads, {ticks} ticks in {IDLE_SECONDS} s; {beside} operations/s "
              f"beside them; {ledger}; all there")


run(drill)
