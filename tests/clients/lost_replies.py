"""What clients do by themselves that loses jobs: lost_replies.py REDIS_PORT MEMCACHED_PORT.

Each fact stands in the README with the setting that avoids it. Where a newer client has stopped
doing it, the page is wrong, and this fails. Needs an mqd of its own with a queue store: it flushes
it.
"""

import sys

import memcache
import redis
from cut_replies import Proxy
from expect import expect, expect_error
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheServerError
from redis.backoff import NoBackoff
from redis.retry import Retry

NO_RETRY = Retry(NoBackoff(), 0)


def redis_py_sends_a_pop_again(r, port):
    """The message of the first answer is gone, and nobody has it."""
    proxy = Proxy(port, b"SPOP")
    for options, popped, left in (({}, b"second", [b"third"]), ({"retry": NO_RETRY}, None, None)):
        r.delete("jobs")
        r.sadd("jobs", "first", "second", "third")
        proxy.cuts = 1
        with redis.Redis(port=proxy.port, socket_timeout=30, **options) as client:
            if popped:
                expect("a pop that was sent again", client.spop("jobs"), popped)
                expect("what is left", r.srandmember("jobs", 9), left)
            else:
                expect_error("a pop with retries off", redis.ConnectionError,
                             lambda: client.spop("jobs"))
                expect("what is left", r.srandmember("jobs", 9), [b"second", b"third"])
    expect("pops that arrived", proxy.seen, 3)


def redis_py_sends_a_push_again(r, port):
    """A worker that is quick pops the message in between: it is done twice."""
    proxy = Proxy(port, b"SADD")
    proxy.cuts = 1
    with redis.Redis(port=proxy.port, socket_timeout=30) as client:
        expect("a push that was sent again", client.sadd("pushes", "a"), 0)
    expect("pushes that arrived", proxy.seen, 2)
    with redis.Redis(port=proxy.port, socket_timeout=30, retry=NO_RETRY) as client:
        proxy.cuts = 1
        expect_error("a push with retries off", redis.ConnectionError,
                     lambda: client.sadd("pushes", "b"))
    expect("pushes that arrived", proxy.seen, 3)


def redis_py_makes_a_set_of_members(r, port):
    """A set has no order; a peek of many is a list."""
    r.sadd("ordered", *range(100))
    expect("smembers", type(r.smembers("ordered")), set)
    expect("srandmember", r.srandmember("ordered", 100), [b"%d" % n for n in range(100)])


def pymemcache_does_not_wait_for_answers(port):
    """A push that was refused looks like one that was not."""
    large = b"x" * ((16 << 20) + 1)
    client = Client(("127.0.0.1", port), timeout=30)
    expect("a refused push, by default", client.set("q", large), True)
    expect("what is there", client.get("q"), None)
    client.close()
    client = Client(("127.0.0.1", port), timeout=30, default_noreply=False)
    expect_error("a refused push that is waited for", MemcacheServerError,
                 lambda: client.set("q", large), "too large")
    client.close()


def python_memcached_answers_none_to_a_lost_reply(port):
    """An empty queue and a reply that was lost look the same, and then nothing is sent at all."""
    direct = memcache.Client([f"127.0.0.1:{port}"])
    for message in ("first", "second", "third"):
        expect("a push", direct.set("jobs", message), True)
    proxy = Proxy(port, b"get ")
    client = memcache.Client([f"127.0.0.1:{proxy.port}"])
    proxy.cuts = 1
    expect("a pop whose reply is lost", client.get("jobs"), None)
    expect("a server that is left alone", client.servers[0].deaduntil > 0, True)
    expect("a pop after it", client.get("jobs"), None)
    expect("pops that arrived", proxy.seen, 1)
    expect("pushes after it", [client.set("jobs", "lost"), client.add("jobs", "lost")], [0, 0])
    client = memcache.Client([f"127.0.0.1:{proxy.port}"], dead_retry=0)
    proxy.cuts = 1
    expect("a pop that was sent again", client.get("jobs"), "third")
    expect("pops that arrived", proxy.seen, 3)
    expect("a pop of nothing", client.get("jobs"), None)
    expect("a server that has answered", client.servers[0].deaduntil, 0)


def python_memcached_sends_no_large_value(port):
    """It knows of the limit of another server."""
    large = b"x" * (2 << 20)
    client = memcache.Client([f"127.0.0.1:{port}"])
    expect("a large push, by default", client.set("large", large), 0)
    expect("what is there", client.get("large"), None)
    client = memcache.Client([f"127.0.0.1:{port}"], server_max_value_length=16 << 20)
    expect("a large push with the limit of mqd", client.set("large", large), True)
    expect("what is there", client.get("large"), large)


def main():
    """All of them."""
    redis_port, memcached_port = int(sys.argv[1]), int(sys.argv[2])
    with redis.Redis(port=redis_port, retry=NO_RETRY, socket_timeout=30) as r:
        r.flushdb()
        redis_py_sends_a_pop_again(r, redis_port)
        redis_py_sends_a_push_again(r, redis_port)
        redis_py_makes_a_set_of_members(r, redis_port)
        r.flushdb()
    pymemcache_does_not_wait_for_answers(memcached_port)
    python_memcached_answers_none_to_a_lost_reply(memcached_port)
    python_memcached_sends_no_large_value(memcached_port)


main()
