"""redis-py against mqd: redis_py.py queue|kv PORT.

Runs everything with the client's defaults, and again under RESP2 and RESP3. Needs an mqd of its own: it flushes it.
"""

import sys

import redis
from expect import expect, expect_error
from redis.backoff import NoBackoff
from redis.retry import Retry

NO_RETRY = Retry(NoBackoff(), 0)  # A retry would hide a connection that the daemon closed.

EVERY_BYTE = bytes(range(256))
PROTOCOL_BYTES = b"\r\n$3\r\nfoo\r\n\x00*1\r\nEND\r\n"
ONE_MIB = EVERY_BYTE * 4096


def ancestor_examples(r):
    """The README session of the project that mqd succeeds."""
    expect("sadd 12", r.sadd("queue", 12), 1)
    expect("sadd 15", r.sadd("queue", 15), 1)
    expect("scard", r.scard("queue"), 2)
    expect("sismember 10", r.sismember("queue", 10), 0)
    expect("sismember 12", r.sismember("queue", 12), 1)
    expect("first spop", r.spop("queue"), b"12")
    expect("second spop", r.spop("queue"), b"15")
    expect("third spop", r.spop("queue"), None)


def order_and_membership(r):
    """First in, first out; a queued message is pushed once."""
    expect("sadd many", r.sadd("jobs", "a", "b", "c", "a", "d"), 4)
    expect("sadd queued", r.sadd("jobs", "b", "e"), 1)
    expect("smismember", r.smismember("jobs", ["a", "x", "e"]), [1, 0, 1])
    expect("srandmember peeks", r.srandmember("jobs"), b"a")
    expect("srandmember 2", r.srandmember("jobs", 2), [b"a", b"b"])
    expect("smembers", r.smembers("jobs"), {b"a", b"b", b"c", b"d", b"e"})
    expect("srem in the middle", r.srem("jobs", "c", "x"), 1)
    expect("smove", r.smove("jobs", "done", "b"), True)
    expect("smove of nothing", r.smove("jobs", "done", "b"), False)
    expect("source", r.spop("jobs", 10), [b"a", b"d", b"e"])
    expect("destination", r.spop("done"), b"b")
    expect("spop count of nothing", list(r.spop("jobs", 10)), [])
    for n in range(500):
        r.sadd("numbers", n)
    expect("500 in order", r.spop("numbers", 400), [b"%d" % n for n in range(400)])
    expect("the rest one by one", [r.spop("numbers") for _ in range(101)],
           [b"%d" % n for n in range(400, 500)] + [None])


def hostile_bytes(r):
    """Messages and names are bytes: empty, binary, large, not ASCII."""
    messages = [b"", PROTOCOL_BYTES, EVERY_BYTE, ONE_MIB, "gr\u00f6\u00dfe \u2713".encode()]
    names = ("plain", "schlange-\u00fc-\u961f\u5217", b"\x00\r\n/../" + EVERY_BYTE[128:160], b"")
    for name in names:
        for message in messages:
            expect(f"sadd to {name!r}", r.sadd(name, message), 1)
            expect(f"sadd again to {name!r}", r.sadd(name, message), 0)
            expect(f"sismember of {name!r}", r.sismember(name, message), 1)
        expect(f"messages of {name!r}", [r.spop(name) for _ in range(6)], messages + [None])


def queue_pipelines(r):
    """Both kinds of pipeline, a WATCH that holds and one that is broken."""
    for transaction in (False, True):
        with r.pipeline(transaction=transaction) as pipe:
            for n in range(1000):
                pipe.sadd("pipe", n)
            pipe.scard("pipe")
            for _ in range(1001):
                pipe.spop("pipe")
            want = [1] * 1000 + [1000] + [b"%d" % n for n in range(1000)] + [None]
            expect(f"pipeline, transaction={transaction}", pipe.execute(), want)
    watch(r, lambda: r.sadd("watched", "other"), lambda pipe: pipe.sadd("watched", "mine"), 1)
    expect("what the transactions left", r.spop("watched", 3), [b"other", b"mine"])


def watch(r, touch, command, want):
    """A transaction fails when a watched key was touched and passes when it was not."""
    with r.pipeline() as pipe:
        pipe.watch("watched")
        touch()
        pipe.multi()
        command(pipe)
        expect_error("exec of a touched key", redis.WatchError, pipe.execute)
        pipe.watch("watched")
        pipe.multi()
        command(pipe)
        expect("exec of an untouched key", pipe.execute(), [want])


def queue_keyspace(r):
    """Queues seen as keys, and the pages of SCAN and SSCAN."""
    members = [b"member-%d" % n for n in range(1000)]
    r.sadd("paged", *members)
    expect("sscan", sorted(set(r.sscan_iter("paged", count=10))), sorted(members))
    expect("sscan match", sorted(set(r.sscan_iter("paged", match="member-99?"))), members[990:])
    for n in range(50):
        r.sadd(f"key:{n}", "m")
    keys = sorted(b"key:%d" % n for n in range(50))
    expect("scan", sorted(set(r.scan_iter(match="key:*"))), keys)
    expect("keys", sorted(r.keys("key:*")), keys)
    expect("dbsize", r.dbsize(), 51)
    expect("type", [r.type("paged"), r.type("nothing")], [b"set", b"none"])
    expect("exists", r.exists("paged", "paged", "nothing"), 2)
    expect("delete", r.delete("paged", "nothing"), 1)
    expect("unlink", r.unlink("key:0"), 1)
    expect("an emptied queue", [r.spop("key:1"), r.exists("key:1")], [b"m", 0])
    expect("flushdb", [r.flushdb(), r.dbsize()], [True, 0])


def queue_errors(r):
    """An error answers one command and leaves the connection in step."""
    expect_error("arity", redis.ResponseError, lambda: r.execute_command("SADD", "q"),
                 "wrong number of arguments for 'sadd' command")
    expect_error("unknown", redis.ResponseError, lambda: r.execute_command("NO\r\nSUCH", "a\r\nb"),
                 "unknown command")
    expect_error("kv command", redis.ResponseError, lambda: r.set("q", "v"))
    expect("in step", r.ping(), True)


def kv_values(r):
    """Values of every kind, the options of SET, many keys at once."""
    for value in (b"", PROTOCOL_BYTES, EVERY_BYTE, ONE_MIB, "gr\u00f6\u00dfe \u2713".encode()):
        expect("set", r.set("schl\u00fcssel-\u2713", value), True)
        expect("get", r.get("schl\u00fcssel-\u2713"), value)
    expect("get of nothing", r.get("nothing"), None)
    expect("set nx of a key", r.set("schl\u00fcssel-\u2713", "x", nx=True), None)
    expect("set xx of nothing", r.set("nothing", "x", xx=True), None)
    expect("set get", [r.set("k", "1", get=True), r.set("k", "2", get=True)], [None, b"1"])
    expect("setnx", [r.setnx("k", "x"), r.setnx("new", "x")], [False, True])
    expect("mset", r.mset({"a": 1, "b": b"\x00"}), True)
    expect("mget", r.mget("a", "nothing", "b"), [b"1", None, b"\x00"])
    expect("append", [r.append("text", "Hello "), r.append("text", "World")], [6, 11])
    expect("strlen", [r.strlen("text"), r.strlen("nothing")], [11, 0])


def kv_numbers(r):
    """Counters, and what happens to a value that is none."""
    expect("incr", [r.incr("n"), r.incr("n", 41), r.decr("n"), r.decr("n", 50)], [1, 42, 41, -9])
    r.set("n", "ten")
    expect_error("incr of a word", redis.ResponseError, lambda: r.incr("n"),
                 "value is not an integer or out of range")
    r.set("n", 2**63 - 1)
    expect_error("incr past the end", redis.ResponseError, lambda: r.incr("n"), "overflow")


def kv_expiry(r):
    """Times to live, and what keeps or drops them."""
    expect("set ex", r.set("t", "v", ex=100), True)
    expect("ttl", [r.ttl("t") in (99, 100), r.pttl("t") > 90_000], [True, True])
    expect("keepttl", [r.set("t", "w", keepttl=True), r.ttl("t") > 90], [True, True])
    expect("persist", [r.persist("t"), r.persist("t"), r.ttl("t")], [True, False, -1])
    expect("expire", [r.expire("t", 100), r.expire("nothing", 100)], [True, False])
    expect("set drops it", [r.set("t", "v"), r.ttl("t"), r.ttl("nothing")], [True, -1, -2])
    r.set("short", "v", px=30)
    r.pexpire("t", 30)
    deadline = r.time()[0] + 5
    while r.exists("short", "t") and r.time()[0] < deadline:
        pass
    expect("expired", [r.get("short"), r.get("t")], [None, None])


def kv_pipelines(r):
    """Both kinds of pipeline, a WATCH that holds and one that is broken."""
    for transaction in (False, True):
        with r.pipeline(transaction=transaction) as pipe:
            for n in range(1000):
                pipe.set(f"p{n}", n).get(f"p{n}").incr("count")
            got = pipe.execute()
        expect("pipelined gets", got[1::3], [b"%d" % n for n in range(1000)])
        expect("pipelined incrs", got[2::3], list(range(1, 1001)))
        r.delete("count")
    watch(r, lambda: r.set("watched", "other"), lambda pipe: pipe.set("watched", "mine"), True)
    expect("what the transactions left", r.get("watched"), b"mine")


def kv_keyspace(r):
    """The keys themselves."""
    r.flushdb()
    r.mset({f"key:{n}": n for n in range(50)} | {"other": 1})
    keys = sorted(b"key:%d" % n for n in range(50))
    expect("scan", sorted(set(r.scan_iter(match="key:*"))), keys)
    expect("keys", sorted(r.keys("key:?")), [b"key:%d" % n for n in range(10)])
    expect("type", [r.type("other"), r.type("nothing")], [b"string", b"none"])
    expect("exists", r.exists("other", "other", "nothing"), 2)
    expect("delete", r.delete("other", "nothing"), 1)
    expect("dbsize", r.dbsize(), 50)
    expect("flushall", [r.flushall(), r.dbsize()], [True, 0])


def kv_errors(r):
    """An error answers one command and leaves the connection in step."""
    expect_error("queue command", redis.ResponseError, lambda: r.sadd("q", "m"))
    expect("in step", r.ping(), True)


def kv_more_values(r):
    """A value read and changed in one step, and parts of values."""
    expect("getset", [r.getset("g", "a"), r.getex("g", ex=100), r.ttl("g") > 90], [None, b"a", True])
    expect("getdel", [r.getdel("g"), r.getdel("g")], [b"a", None])
    expect("setex", [r.execute_command("SETEX", "g", 100, "v"), r.ttl("g") > 90], [True, True])
    expect("expireat", [r.expireat("g", 32503680000), r.expiretime("g")], [True, 32503680000])
    expect("setrange", [r.setrange("part", 2, "cd"), r.getrange("part", 1, 2)], [4, b"\x00c"])
    expect("incrbyfloat", [r.incrbyfloat("f", 0.1), r.incrbyfloat("f", 0.2)], [0.1, 0.3])
    expect("msetnx", [r.msetnx({"m1": 1, "m2": 2}), r.msetnx({"m2": 3, "m3": 4})], [True, False])


def clients(r):
    """Who is connected; one client ends another."""
    r.client_setname("first")
    with redis.Redis(port=int(sys.argv[2]), retry=NO_RETRY, client_name="second") as other:
        victim = other.client_id()
        # The pool has more connections, without a name.
        names = {client["name"] for client in r.client_list()} - {""}
        expect("client list", names, {"first", "second"})
        expect("client info", r.client_info()["name"], "first")
        expect("client kill", r.client_kill_filter(_id=victim), 1)
        # The client finds its connection closed and makes another.
        expect("another connection", other.client_id() > victim, True)
    expect("config set", r.config_set("loglevel", "info"), True)
    expect("info", r.info("commandstats")["cmdstat_flushdb"]["failed_calls"], 0)


STEPS = {
    "queue": [ancestor_examples, order_and_membership, hostile_bytes, queue_pipelines,
              queue_keyspace, queue_errors, clients],
    "kv": [kv_values, kv_more_values, kv_numbers, kv_expiry, kv_pipelines, kv_keyspace, kv_errors,
           clients],
}


def main():
    """Run the steps of the store under both protocols."""
    store, port = sys.argv[1], int(sys.argv[2])
    for options in ({}, {"protocol": 2}, {"protocol": 3}):
        with redis.Redis(port=port, retry=NO_RETRY, socket_timeout=30, **options) as r:
            expect("flushdb", r.flushdb(), True)
            for step in STEPS[store]:
                step(r)


main()
