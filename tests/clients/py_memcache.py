"""pymemcache against mqd: py_memcache.py queue|kv PORT.

The client's own typed values (flags) and its raw bytes are both used. Needs an mqd of its own: it
flushes it.
"""

import sys
import time

from expect import expect, expect_error, fail
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheClientError, MemcacheError
from pymemcache.serde import pickle_serde

EVERY_BYTE = bytes(range(256))
ONE_MIB = EVERY_BYTE * 4096
TYPED = [123, -1, "text", "gr\u00f6\u00dfe \u2713", b"", "", b"\x00\r\nEND\r\n", EVERY_BYTE, 1.5,
         (1, "a"), ONE_MIB]


def connect(port, **options):
    """A client that waits for every answer, so that every answer is checked."""
    return Client(("127.0.0.1", port), default_noreply=False, allow_unicode_keys=True,
                  connect_timeout=30, timeout=30, **options)


def queue_order_and_types(mc, raw):
    """`set` pushes, `get` pops, flags come back."""
    for name in ("jobs", "schlange-\u2713", "x" * 250):
        for value in TYPED:
            expect(f"push {value!r:.40}", mc.set(name, value), True)
        got = [mc.get(name) for _ in range(len(TYPED) + 1)]
        expect(f"pops of {name:.20}", got, TYPED + [None])
    for flags in (0, 1 << 15, 2**32 - 1):
        expect("push with flags", raw.set("flags", b"m", flags=flags), True)
    seen = connect(raw.server[1], deserializer=lambda key, value, flags: (value, flags))
    expect("flags", [seen.get("flags") for _ in range(4)],
           [(b"m", 0), (b"m", 1 << 15), (b"m", 2**32 - 1), None])
    seen.close()


def queue_unique(mc, raw):
    """`add` of a queued message is not stored; `set` of one is."""
    expect("add", [mc.add("u", "a"), mc.add("u", "b"), mc.add("u", "a")], [True, True, False])
    expect("set of a queued message", mc.set("u", "a"), True)
    expect("pops", [mc.get("u") for _ in range(4)], ["a", "b", "a", None])
    expect("add after the pops", [mc.add("u", "a"), mc.get("u")], [True, "a"])
    expect("scard", [raw.set("n", b"m"), raw.raw_command("scard n"), raw.raw_command("scard none")],
           [True, b"1", b"0"])


def queue_many(mc, raw):
    """Many queues at once, `noreply`, `delete`."""
    names = [f"q{n}" for n in range(20)]
    for n in range(3):
        expect("set_many", mc.set_many({name: n for name in names}), [])
    expect("delete", [mc.delete("q0"), mc.delete("q0")], [True, False])
    for n in range(3):
        expect("get_many", mc.get_many(names), {name: n for name in names[1:]})
    expect("get_many of nothing", mc.get_many(names), {})
    for n in range(100):
        mc.set("quiet", n, noreply=True)
    expect("pushed without replies", [mc.get("quiet") for _ in range(101)], [*range(100), None])


def queue_errors(mc, raw):
    """An error answers one command and leaves the connection in step."""
    expect_error("incr", MemcacheError, lambda: mc.incr("q", 1))
    expect_error("unknown", MemcacheError, lambda: raw.raw_command("no_such_command a"))
    expect("in step", [mc.set("q", "m"), mc.get("q")], [True, "m"])


def kv_types(mc, raw):
    """Every kind of value, under short, long and non-ASCII keys."""
    for key in ("k", "x" * 250, "schl\u00fcssel-\u2713"):
        for value in TYPED:
            expect(f"set {value!r:.40}", mc.set(key, value), True)
            expect(f"get {value!r:.40}", mc.get(key), value)
    expect("get of nothing", mc.get("nothing", default=7), 7)
    pairs = {f"many-{n}": n for n in range(200)}
    expect("set_many", mc.set_many(pairs), [])
    expect("get_many", mc.get_many([*pairs, "nothing"]), pairs)
    expect("gets_many", sorted(mc.gets_many(["many-1", "many-2", "nothing"])), ["many-1", "many-2"])
    expect("delete", [mc.delete("many-1"), mc.delete("many-1")], [True, False])


def kv_conditions(mc, raw):
    """add, replace, append, prepend and cas store only where they may."""
    mc.delete("c")
    expect("replace, append, prepend of nothing",
           [raw.replace("c", b"x"), raw.append("c", b"x"), raw.prepend("c", b"x")], [False] * 3)
    expect("cas of nothing", raw.cas("c", b"x", b"1"), None)
    expect("add", [raw.add("c", b"b"), raw.add("c", b"x")], [True, False])
    expect("append, prepend", [raw.append("c", b"c"), raw.prepend("c", b"a")], [True, True])
    value, number = raw.gets("c")
    expect("gets", value, b"abc")
    expect("cas", [raw.cas("c", b"1", number), raw.cas("c", b"2", number)], [True, False])
    expect("what cas left", raw.get("c"), b"1")
    expect("gat", raw.raw_command("gat 100 c nothing", "END\r\n"), b"VALUE c 0 1\r\n1\r\n")
    number = raw.raw_command("gats 100 c", "END\r\n").split()[4]
    expect("cas after gats", raw.cas("c", b"3", number), True)


def kv_numbers(mc, raw):
    """Counters stop at zero and wrap at 64 bits; a word is no number."""
    expect("incr of nothing", [raw.incr("nothing", 1), raw.decr("nothing", 1)], [None, None])
    raw.set("n", b"10")
    expect("incr, decr", [raw.incr("n", 32), raw.decr("n", 2), raw.decr("n", 99)], [42, 40, 0])
    raw.set("n", b"%d" % (2**64 - 1))
    expect("incr wraps", raw.incr("n", 1), 0)
    raw.set("n", b"ten")
    expect_error("incr of a word", MemcacheClientError, lambda: raw.incr("n", 1),
                 "cannot increment or decrement non-numeric value")


def kv_expiry(mc, raw):
    """Relative, absolute and negative times, and touch."""
    now = int(time.time())
    for expire, want in ((100, b"v"), (now + 100, b"v"), (now - 100, None), (-1, None)):
        expect(f"set for {expire}", [raw.set("t", b"v", expire), raw.get("t")], [True, want])
    raw.set("t", b"v")
    expect("touch", [raw.touch("t", 1), raw.touch("nothing", 1)], [True, False])
    deadline = time.monotonic() + 5
    while raw.get("t") is not None:
        if time.monotonic() > deadline:
            fail("a key touched with one second is there after five")
        time.sleep(0.1)


def server_commands(mc, raw):
    """version, stats, verbosity, flush_all, quit."""
    expect("version", len(raw.version()) > 0, True)
    expect("stats", b"version" in raw.stats(), True)
    expect("verbosity", raw.raw_command("verbosity 0"), b"OK")
    expect("flush_all", [mc.set("gone", 1), mc.flush_all(), mc.get("gone")], [True, True, None])


STEPS = {
    "queue": [queue_order_and_types, queue_unique, queue_many, queue_errors, server_commands],
    "kv": [kv_types, kv_conditions, kv_numbers, kv_expiry, server_commands],
}


def main():
    """Run the steps of the store with a typed client and a raw one."""
    store, port = sys.argv[1], int(sys.argv[2])
    mc, raw = connect(port, serde=pickle_serde), connect(port)
    expect("flush_all", mc.flush_all(), True)
    for step in STEPS[store]:
        step(mc, raw)
    for client in (mc, raw):
        client.quit()


main()
