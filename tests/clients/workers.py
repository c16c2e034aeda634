"""Runs the workers of README.md as they stand there: workers.py REDIS_PORT MEMCACHED_PORT.

One is killed in the middle of its work, two go on. Every job must be done, none of those that a
worker finished may be done again, and a job that takes longer than its lease is extended meanwhile.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import redis
from expect import expect

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = [str(number) for number in range(20)]
HEADING = "### The loop of a worker"

# What `work` is here: it notes its beginning and its end, hangs on the message in $HANG, fails the
# first time on `fails`, and takes longer than a lease on `long`.
PRELUDES = {
    "python": """
import os, time

def note(what, message):
    with open(os.environ["LOG"], "a") as log:
        log.write(f"{what} {message}\\n")

def work(message):
    message = message.decode() if isinstance(message, bytes) else message
    note("begun", message)
    if message == os.environ.get("HANG"):
        time.sleep(3600)
    if message == "fails" and open(os.environ["LOG"]).read().count("begun fails") == 1:
        raise ValueError(message)
    if message == "long":
        time.sleep(5)
    note("done", message)
""",
    "js": """
const fs = require("fs");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const note = (what, message) => fs.appendFileSync(process.env.LOG, `${what} ${message}\\n`);

async function work(message) {
    note("begun", message);
    if (message === process.env.HANG) await sleep(3600000);
    const log = fs.readFileSync(process.env.LOG, "utf8");
    if (message === "fails" && log.split("begun fails").length === 2) throw new Error(message);
    if (message === "long") await sleep(5000);
    note("done", message);
}
""",
    "php": """<?php
function note($what, $message) {
    file_put_contents(getenv("LOG"), "$what $message\\n", FILE_APPEND);
}

function work($message) {
    note("begun", $message);
    if ($message === getenv("HANG")) sleep(3600);
    $begun = substr_count(file_get_contents(getenv("LOG")), "begun fails");
    if ($message === "fails" && $begun === 1) throw new Exception($message);
    note("done", $message);
}
""",
}
COMMANDS = {"python": [sys.executable], "js": ["node"], "php": ["php"]}


def workers(redis_port, memcached_port):
    """The programs of the page: language and text, with the ports of this daemon and short times."""
    with open(os.path.join(ROOT, "README.md"), encoding="ascii") as page:
        section = page.read().split(f"\n{HEADING}\n")[1].split("\n##")[0]
    ports = {"4000": redis_port, "4001": memcached_port}
    text = re.sub(r"\b400[01]\b", lambda port: ports[port.group()], section)
    text = text.replace("wait(60)", "wait(0.3)").replace("60000", "300")
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def wait_until(what, is_true):
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.02)


def run(mq, language, text, folder):
    program, log = os.path.join(folder, "worker"), os.path.join(folder, "log")
    with open(program, "w", encoding="ascii") as file:
        file.write(PRELUDES[language] + text)
    open(log, "w", encoding="ascii").close()

    def start(**more):
        return subprocess.Popen([*COMMANDS[language], program], env={**os.environ, "LOG": log, **more})

    def noted(what):
        with open(log, encoding="ascii") as file:
            return [line.split()[1] for line in file if line.startswith(what)]

    extends = "WORKING" in text and language != "php"
    jobs = JOBS + ["fails"] + ["long"] * extends
    expect("the queue is empty", mq.delete("mail"), 0)
    for job in jobs:
        mq.execute_command("ADDJOB", "mail", job, 0)
    running = [start(HANG="7")]
    try:
        wait_until("a worker is in the middle", lambda: "7" in noted("begun"))
        running[0].send_signal(signal.SIGKILL)
        running += [start(), start()]
        wait_until("all is acknowledged", lambda: not mq.exists("mail"))
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
    expect("every job is done once", sorted(noted("done")), sorted(jobs))
    expect("two were begun again", sorted(noted("begun")), sorted([*jobs, "7", "fails"]))


def main():
    redis_port, memcached_port = sys.argv[1:]
    mq = redis.Redis(port=int(redis_port))
    lease = mq.config_get("lease")["lease"]
    mq.config_set("lease", 2)
    found = workers(redis_port, memcached_port)
    expect("languages", [language for language, _ in found], ["python", "js", "js", "php", "python"])
    for language, text in found:
        with tempfile.TemporaryDirectory() as folder:
            run(mq, language, text, folder)
    mq.config_set("lease", lease)


if __name__ == "__main__":
    main()
