<?php
// php-memcached (libmemcached) against mqd: php php_memcached.php queue|kv PORT. Needs an mqd of
// its own: it flushes it.

function fail(string $message): never
{
    fwrite(STDERR, implode(' ', $_SERVER['argv']) . ": $message\n");
    exit(1);
}

function expect(string $what, mixed $got, mixed $want): void
{
    if ($got !== $want) {
        fail("$what: got " . var_export($got, true) . ', expected ' . var_export($want, true));
    }
}

[, $store, $port] = $argv;
$server = "127.0.0.1:$port";
$mc = new Memcached();
$mc->addServer('127.0.0.1', (int) $port);

// libmemcached asks for the version by itself, and gives up where it cannot read it.
$version = $mc->getVersion()[$server] ?? '';
expect('the version is three numbers', preg_match('/^1\.6\.\d+$/', $version), 1);
expect('flush', $mc->flush(), true);

$values = [123, -1, 1.5, true, 'text', '', "\0\r\nEND\r\n", 'größe ✓', ['a' => 1], str_repeat('x', 1 << 20)];
if ($store === 'queue') {
    foreach ($values as $value) {
        expect('push', $mc->set('jobs', $value), true);
    }
    foreach ($values as $value) {
        expect('pop', $mc->get('jobs'), $value);
    }
    expect('pop of nothing', $mc->get('jobs'), false);
    expect('why', $mc->getResultCode(), Memcached::RES_NOTFOUND);
    expect('add', [$mc->add('u', 'a'), $mc->add('u', 'a')], [true, false]);
    expect('why', $mc->getResultCode(), Memcached::RES_NOTSTORED);
    expect('delete', [$mc->delete('u'), $mc->delete('u')], [true, false]);
    expect('incr', $mc->increment('q'), false);
} else {
    foreach ($values as $value) {
        expect('set', $mc->set('k', $value), true);
        expect('get', $mc->get('k'), $value);
    }
    expect('many', $mc->setMulti(['a' => 1, 'b' => 'two']), true);
    expect('many', $mc->getMulti(['a', 'none', 'b']), ['a' => 1, 'b' => 'two']);
    $found = $mc->get('a', null, Memcached::GET_EXTENDED);
    expect('cas', $mc->cas($found['cas'], 'a', 2), true);
    expect('cas of an old value', $mc->cas($found['cas'], 'a', 3), false);
    expect('counters', [$mc->increment('a', 5), $mc->decrement('a', 9)], [7, 0]);
    expect('touch', [$mc->touch('a', 100), $mc->touch('none', 100)], [true, false]);
    expect('append to what is not compressed', $mc->setOption(Memcached::OPT_COMPRESSION, false), true);
    expect('append', [$mc->set('s', 'b'), $mc->append('s', 'c'), $mc->prepend('s', 'a')], [true, true, true]);
    expect('what they made', $mc->get('s'), 'abc');
}

// What monitors ask through it.
$stats = $mc->getStats()[$server] ?? [];
foreach (['pid', 'uptime', 'curr_connections', 'cmd_get', 'cmd_set', 'get_hits', 'get_misses', 'bytes', 'curr_items'] as $name) {
    if (!isset($stats[$name]) || !is_numeric($stats[$name])) {
        fail("stats have no number $name: " . var_export($stats, true));
    }
}
expect('the version in stats', $stats['version'], $version);
if ($store === 'queue') {
    $mc->set('watched', 'm');
    expect('stats queues', $mc->getStats('queues')[$server]['queue_watched_items'] ?? null, 1);
}
expect('quit', $mc->quit(), true);
