"""One queue, both protocols: cross_protocol.py REDIS_PORT MEMCACHED_PORT.

What redis-py pushes, pymemcache pops, and the other way round, with bytes, order and flags. Needs
an mqd of its own with a queue store: it flushes it.
"""

import sys

import redis
from expect import expect
from pymemcache.client.base import Client
from pymemcache.serde import pickle_serde

MESSAGES = [b"", b"\x00\r\nEND\r\n$3\r\n", bytes(range(256)), bytes(range(256)) * 4096,
            "gr\u00f6\u00dfe \u2713".encode()]


def redis_to_memcached(r, mc):
    """SADD, then get: the flags are zero."""
    expect("sadd", r.sadd("queue", *MESSAGES), len(MESSAGES))
    want = [(message, 0) for message in MESSAGES]
    expect("pops", [mc.get("queue") for _ in range(len(MESSAGES) + 1)], want + [None])


def memcached_to_redis(r, mc):
    """set, then SPOP: the bytes without the flags."""
    for message in MESSAGES:
        expect("set", mc.set("queue", message, flags=7), True)
    expect("scard", r.scard("queue"), len(MESSAGES))
    expect("sismember", [r.sismember("queue", message) for message in MESSAGES], [1] * 5)
    expect("pops", r.spop("queue", 9), MESSAGES)


def one_order(r, mc):
    """Turns of both protocols make one order, one membership and one set of names."""
    for n in range(0, 100, 2):
        expect("set", mc.set("turns", b"%d" % n, flags=n), True)
        expect("sadd", r.sadd("turns", n + 1), 1)
    expect("sadd of what memcached pushed", r.sadd("turns", 0), 0)
    expect("add of what Redis pushed", mc.add("turns", b"1"), False)
    expect("srem of what memcached pushed", r.srem("turns", 50), 1)
    want = [(b"%d" % n, 0 if n % 2 else n) for n in range(100) if n != 50]
    expect("pops", [mc.get("turns") for _ in range(100)], want + [None])
    mc.set("turns", b"moved", flags=9)
    expect("smove", r.smove("turns", "away", "moved"), True)
    expect("flags after smove", mc.get("away"), (b"moved", 9))
    mc.set("dropped", b"m")
    expect("del", [r.keys(), r.delete("dropped"), mc.get("dropped")], [[b"dropped"], 1, None])
    r.sadd("dropped", "m")
    expect("delete", [mc.delete("dropped"), r.dbsize()], [True, 0])


def main():
    """Run the steps with two clients on one daemon."""
    redis_port, memcached_port = map(int, sys.argv[1:])
    r = redis.Redis(port=redis_port, socket_timeout=30)
    mc = Client(("127.0.0.1", memcached_port), default_noreply=False, timeout=30,
                deserializer=lambda key, value, flags: (value, flags))
    r.flushdb()
    for step in (redis_to_memcached, memcached_to_redis, one_order):
        step(r, mc)
    typed = Client(("127.0.0.1", memcached_port), default_noreply=False, serde=pickle_serde)
    expect("typed", [typed.set("typed", 123), r.scard("typed"), typed.get("typed")], [True, 1, 123])


main()
