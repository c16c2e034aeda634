<?php
// phpredis against mqd: php phpredis.php queue|kv PORT. Needs an mqd of its own: it flushes it.

function fail(string $message): never
{
    fwrite(STDERR, implode(' ', $GLOBALS['argv']) . ": $message\n");
    exit(1);
}

/** Ends the script unless both have the same value and type. */
function expect(string $what, mixed $got, mixed $want): void
{
    if ($got !== $want) {
        $show = fn ($value) => substr(var_export($value, true), 0, 300);
        fail("$what: got {$show($got)}, expected {$show($want)}");
    }
}

/** Calls the page function (SCAN, SSCAN) to its end; gives all it saw, sorted and once each. */
function pages(callable $page): array
{
    $seen = [];
    $cursor = null;
    while (($found = $page($cursor)) !== false) {
        $seen = array_merge($seen, $found);
    }
    $seen = array_values(array_unique($seen));
    sort($seen);
    return $seen;
}

function messages(): array
{
    $every_byte = implode('', array_map('chr', range(0, 255)));
    $one_mib = str_repeat($every_byte, 4096);
    return ['', "\r\n$3\r\nfoo\r\n\0END\r\n", $every_byte, $one_mib, "gr\u{f6}\u{df}e \u{2713}"];
}

/** The README session of the project that mqd succeeds. */
function ancestor_examples(Redis $r): void
{
    for ($i = 0; $i < 10; $i++) {
        expect("sAdd $i", $r->sAdd('queue', "Item $i"), 1);
    }
    expect('sAdd of a queued item', $r->sAdd('queue', 'Item 3'), 0);
    expect('scard', $r->sCard('queue'), 10);
    expect('sismember', $r->sIsMember('queue', 'Item 9'), true);
    expect('sismember of nothing', $r->sIsMember('queue', 'Item 10'), false);
    for ($i = 0; $i < 10; $i++) {
        expect("sPop $i", $r->sPop('queue'), "Item $i");
    }
    expect('sPop of nothing', $r->sPop('queue'), false);
}

function queue_messages(Redis $r): void
{
    foreach (['plain', "schlange-\u{2713}", "\0\r\n/../"] as $name) {
        expect('sAdd many', $r->sAdd($name, ...messages()), 5);
        expect('sMembers', $r->sMembers($name), messages());
        expect('sPop count', $r->sPop($name, 10), messages());
    }
    $r->sAdd('jobs', 'a', 'b', 'c', 'd');
    expect('sRem', $r->sRem('jobs', 'b', 'x'), 1);
    expect('sMove', $r->sMove('jobs', 'done', 'c'), true);
    expect('sRandMember', $r->sRandMember('jobs'), 'a');
    expect('sRandMember 2', $r->sRandMember('jobs', 2), ['a', 'd']);
    expect('sPop', [$r->sPop('jobs'), $r->sPop('done'), $r->sPop('jobs')], ['a', 'c', 'd']);
}

function queue_transactions(Redis $r): void
{
    foreach ([Redis::PIPELINE, Redis::MULTI] as $mode) {
        $pipe = $r->multi($mode);
        for ($i = 0; $i < 100; $i++) {
            $pipe->sAdd('pipe', "$i");
        }
        $got = $pipe->sCard('pipe')->sPop('pipe')->del('pipe')->sPop('pipe')->exec();
        expect("pipeline $mode", $got, [...array_fill(0, 100, 1), 100, '0', 1, false]);
    }
    foreach (['touched' => false, 'untouched' => [1]] as $name => $want) {
        $r->watch('watched');
        if ($name === 'touched') {
            $r->sAdd('watched', 'other');
        }
        expect("exec of $name", $r->multi()->sAdd('watched', 'mine')->exec(), $want);
    }
    expect('what they left', $r->sPop('watched', 5), ['other', 'mine']);
}

function queue_keyspace(Redis $r): void
{
    $r->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $members = array_map(fn ($n) => sprintf('member-%03d', $n), range(0, 499));
    $r->sAdd('paged', ...$members);
    expect('sscan', pages(function (&$cursor) use ($r) {
        return $r->sScan('paged', $cursor, 'member-*', 10);
    }), $members);
    $r->sAdd('other', 'm');
    expect('scan', pages(function (&$cursor) use ($r) {
        return $r->scan($cursor);
    }), ['other', 'paged']);
    expect('type', $r->type('paged'), Redis::REDIS_SET);
    expect('del', $r->del('paged', 'nothing'), 1);
    expect('keys', $r->keys('*'), ['other']);
    expect('flushDB', [$r->flushDB(), $r->dbSize()], [true, 0]);
}

function kv_values(Redis $r): void
{
    $key = "schl\u{fc}ssel-\u{2713}";
    foreach (messages() as $value) {
        expect('set', $r->set($key, $value), true);
        expect('get', $r->get($key), $value);
    }
    expect('get of nothing', $r->get('nothing'), false);
    expect('nx', $r->set($key, 'x', ['nx', 'ex' => 10]), false);
    expect('xx', $r->set($key, 'x', ['xx', 'ex' => 10]), true);
    expect('ttl', $r->ttl($key) >= 9, true);
    expect('persist', [$r->persist($key), $r->ttl($key)], [true, -1]);
    expect('setnx', [$r->setnx('new', 'v'), $r->setnx('new', 'v')], [true, false]);
    expect('mset', $r->mset(['a' => '1', 'b' => '2']), true);
    expect('mget', $r->mget(['a', 'nothing', 'b']), ['1', false, '2']);
    expect('append', [$r->append('text', 'ab'), $r->strlen('text')], [2, 2]);
    expect('numbers', [$r->incr('n'), $r->incrBy('n', 9), $r->decrBy('n', 3)], [1, 10, 7]);
    $r->set('n', 'ten');
    expect('incr of a word', $r->incr('n'), false);
    expect('its error', str_contains($r->getLastError(), 'value is not an integer'), true);
}

function kv_transactions(Redis $r): void
{
    foreach ([Redis::PIPELINE, Redis::MULTI] as $mode) {
        $pipe = $r->multi($mode);
        for ($i = 0; $i < 100; $i++) {
            $pipe->set("k$i", "$i")->get("k$i");
        }
        $want = array_merge(...array_map(fn ($n) => [true, "$n"], range(0, 99)));
        expect("pipeline $mode", $pipe->exec(), $want);
    }
    foreach (['touched' => false, 'untouched' => [true]] as $name => $want) {
        $r->watch('watched');
        if ($name === 'touched') {
            $r->set('watched', 'other');
        }
        expect("exec of $name", $r->multi()->set('watched', 'mine')->exec(), $want);
    }
    expect('exists', $r->exists('watched', 'nothing'), 1);
    expect('type', $r->type('watched'), Redis::REDIS_STRING);
}

[, $store, $port] = $argv;
$steps = [
    'queue' => ['ancestor_examples', 'queue_messages', 'queue_transactions', 'queue_keyspace'],
    'kv' => ['kv_values', 'kv_transactions'],
];
try {
    $r = new Redis();
    $r->connect('127.0.0.1', (int) $port, 30);
    $r->setOption(Redis::OPT_READ_TIMEOUT, 30);
    expect('ping', $r->ping(), true);
    expect('flushAll', $r->flushAll(), true);
    foreach ($steps[$store] as $step) {
        $step($r);
    }
    $r->close();
} catch (RedisException $error) {
    fail("$error");
}
