"""The check that every Python client script uses.

It ends the script with one line when an answer is wrong; it knows no client and no daemon.
"""

import sys
from itertools import takewhile


def fail(message):
    """End the script with exit code 1 and one line on stderr."""
    sys.exit(f"{sys.argv[0]} {' '.join(sys.argv[1:])}: {message}")


def expect(what, got, want):
    """Fail unless `got` has the value and the type of `want` (123 is not b"123", 1 is not True)."""
    if type(got) is not type(want) or got != want:
        if isinstance(got, list) and isinstance(want, list):
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(got, want)))
            what, got, want = f"{what}, from item {same} on", got[same:], want[same:]
        fail(f"{what}: got {got!r:.300}, expected {want!r:.300}")


def expect_error(what, exception, action, text=""):
    """Fail unless `action()` raises `exception` with `text` somewhere in its message."""
    try:
        got = action()
    except exception as error:
        if text not in str(error):
            fail(f"{what}: the error says {str(error)!r}, expected {text!r} in it")
    else:
        fail(f"{what}: got {got!r:.300}, expected an error")
