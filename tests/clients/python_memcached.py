"""python-memcached against mqd: python_memcached.py queue|kv PORT.

This client reports no error texts, so the answers are judged by the values they become. Needs an
mqd of its own: it flushes it.
"""

import sys
import time

import memcache
from expect import expect, fail

ONE_MIB = bytes(range(256)) * 4096
TYPED = [123, -1, "text", "gr\u00f6\u00dfe \u2713", b"bytes \x00\r\nEND\r\n", b"", "", 2**40, True,
         1.5, None, {"a": [1, 2]}, ONE_MIB]


def ancestor_examples_kv(mc):
    """The README session of the project that mqd succeeds: a typed value comes back typed."""
    expect("set", mc.set("foo", 123), True)
    expect("get", mc.get("foo"), 123)
    expect("get again", mc.get("foo"), 123)


def ancestor_examples_queue(mc):
    """The same session where `set` pushes and `get` pops."""
    expect("set", mc.set("foo", 123), True)
    expect("get", mc.get("foo"), 123)
    expect("get again", mc.get("foo"), None)
    expect("add", [mc.add("foo", n) for n in (12, 15, 12)], [True, True, False])
    expect("pops", [mc.get("foo") for _ in range(3)], [12, 15, None])


def queue_order_and_types(mc):
    """Messages come back in order and with the type that their flags say."""
    for value in TYPED:
        expect(f"push {value!r:.40}", mc.set("jobs", value), True)
    for value in TYPED:
        expect(f"pop {value!r:.40}", mc.get("jobs"), value)
    expect("pop of nothing", mc.get("jobs"), None)
    for n in range(500):
        mc.set("numbers", n)
    expect("500 in order", [mc.get("numbers") for _ in range(501)], list(range(500)) + [None])


def queue_many(mc):
    """One `get` of many keys pops one message from each; `delete` drops a queue."""
    names = [f"warteschlange-\u00fc-{n}" for n in range(10)]
    expect("set_multi", mc.set_multi({name: 1 for name in names}), [])
    expect("set_multi again", mc.set_multi({name: "two" for name in names}), [])
    mc.delete(names[0])
    expect("first pops", mc.get_multi(names), {name: 1 for name in names[1:]})
    expect("second pops", mc.get_multi(names), {name: "two" for name in names[1:]})
    expect("third pops", mc.get_multi(names), {})
    expect("set noreply", mc.set("quiet", "m", noreply=True), True)
    expect("get after noreply", mc.get("quiet"), "m")
    expect("delete", [mc.set("quiet", "m"), mc.delete("quiet"), mc.delete("quiet")], [True, 1, 0])


def kv_types(mc):
    """Every kind of value, under short, long and non-ASCII keys."""
    for key in ("k", "x" * 250, "schl\u00fcssel-\u2713"):
        for value in TYPED:
            expect(f"set {value!r:.40}", mc.set(key, value), True)
            expect(f"get {value!r:.40}", mc.get(key), value)
    expect("get of nothing", mc.get("nothing"), None)
    pairs = {f"many-{n}": n for n in range(200)}
    expect("set_multi", mc.set_multi(pairs), [])
    expect("get_multi", mc.get_multi(list(pairs) + ["nothing"]), pairs)
    expect("delete_multi", mc.delete_multi(list(pairs)), 1)
    expect("get_multi of nothing", mc.get_multi(list(pairs)), {})


def kv_conditions(mc):
    """add, replace, append, prepend, delete and cas store only where they may."""
    mc.delete("c")
    expect("replace, append, prepend of nothing",
           [mc.replace("c", "x"), mc.append("c", "x"), mc.prepend("c", "x")], [False] * 3)
    expect("add", [mc.add("c", "b"), mc.add("c", "x")], [True, False])
    expect("append, prepend", [mc.append("c", "c"), mc.prepend("c", "a")], [True, True])
    expect("what they made", mc.get("c"), "abc")
    expect("gets", mc.gets("c"), "abc")
    expect("cas of an untouched key", mc.cas("c", "first"), True)
    expect("cas with the old number", mc.cas("c", "second"), False)
    expect("what cas left", mc.get("c"), "first")
    mc.reset_cas()


def kv_numbers(mc):
    """Counters stay numbers, stop at zero, and wrap at 64 bits."""
    expect("incr of nothing", mc.incr("nothing"), None)
    expect("set", mc.set("n", "10"), True)
    expect("incr, decr", [mc.incr("n"), mc.incr("n", 31), mc.decr("n", 2)], [11, 42, 40])
    expect("decr stops at zero", mc.decr("n", 100), 0)
    mc.set("n", str(2**64 - 1))
    expect("incr wraps", mc.incr("n"), 0)


def kv_expiry(mc):
    """Relative, absolute and negative times."""
    expect("relative", [mc.set("t", 1, time=100), mc.get("t")], [True, 1])
    expect("absolute", [mc.set("t", 2, time=int(time.time()) + 100), mc.get("t")], [True, 2])
    expect("past", [mc.set("t", 3, time=int(time.time()) - 100), mc.get("t")], [True, None])
    expect("negative", [mc.set("t", 4, time=-1), mc.get("t")], [True, None])
    mc.set("t", 5)
    expect("touch", [mc.touch("t", 1), mc.touch("nothing", 1)], [1, 0])
    deadline = time.monotonic() + 5
    while mc.get("t") is not None:
        if time.monotonic() > deadline:
            fail("a key touched with one second is there after five")
        time.sleep(0.1)


def server_commands(mc):
    """stats, and flush_all, which empties everything."""
    [(_, stats)] = mc.get_stats()
    expect("stats have a version", "version" in stats, True)
    mc.set("gone", 1)
    mc.flush_all()
    expect("after flush_all", mc.get("gone"), None)


STEPS = {
    "queue": [ancestor_examples_queue, queue_order_and_types, queue_many, server_commands],
    "kv": [ancestor_examples_kv, kv_types, kv_conditions, kv_numbers, kv_expiry, server_commands],
}


def main():
    """Run the steps of the store on one connection that must stay alive."""
    store, port = sys.argv[1:]
    mc = memcache.Client([f"127.0.0.1:{port}"], cache_cas=True, socket_timeout=30, dead_retry=0,
                         server_max_value_length=4 << 20)
    mc.flush_all()
    for step in STEPS[store]:
        step(mc)
        expect(f"connected after {step.__name__}", bool(mc.servers[0].socket), True)
    mc.disconnect_all()


main()
