"""Runs the Python sessions of README.md against a daemon: readme.py REDIS_PORT MEMCACHED_PORT."""

import doctest
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    with open(os.path.join(ROOT, "README.md"), encoding="ascii") as page:
        text = page.read()
    text = text.replace("port=4000", f"port={sys.argv[1]}")
    text = text.replace("127.0.0.1:4001", f"127.0.0.1:{sys.argv[2]}")
    session = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert session.examples, "README.md has no Python session"
    outcome = doctest.DocTestRunner().run(session)
    sys.exit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
