// ioredis against mqd: node ioredis.js queue|kv PORT, with its defaults, and again under RESP2 and
// RESP3. The client's ready check sends INFO first. Needs an mqd of its own: it flushes it.
'use strict';

const Redis = require('ioredis');
const { MESSAGES, expect, expectError, fail, run } = require('./expect.js');

const numbers = (count) => Array.from({ length: count }, (_, n) => `${n}`);

/** The results of a pipeline, after a look that none of them is an error. */
function results(what, pairs) {
  expect(`${what}: errors`, pairs.map(([error]) => error).filter(Boolean), []);
  return pairs.map(([, result]) => result);
}

/** All that a SCAN or SSCAN stream gives, sorted and once each. */
async function pages(stream) {
  const seen = new Set();
  for await (const page of stream) page.forEach((item) => seen.add(item));
  return [...seen].sort();
}

async function queueMessages(c) {
  expect('sadd', [await c.sadd('queue', 12), await c.sadd('queue', 15)], [1, 1]);
  expect('scard', await c.scard('queue'), 2);
  expect('sismember', [await c.sismember('queue', 10), await c.sismember('queue', 12)], [0, 1]);
  const pops = [await c.spop('queue'), await c.spop('queue'), await c.spop('queue')];
  expect('spop', pops, ['12', '15', null]);
  for (const name of ['plain', 'schlange-\u2713', '\0\r\n/../']) {
    expect('sadd many', await c.sadd(name, ...MESSAGES), MESSAGES.length);
    expect('smembers', await c.smembersBuffer(name), MESSAGES);
    for (const message of MESSAGES) expect('spop', await c.spopBuffer(name), message);
  }
  await c.sadd('jobs', 'a', 'b', 'c', 'd');
  expect('srem', await c.srem('jobs', 'b', 'x'), 1);
  expect('smove', await c.smove('jobs', 'done', 'c'), 1);
  expect('srandmember', await c.srandmember('jobs'), 'a');
  expect('spop count', await c.spop('jobs', 5), ['a', 'd']);
  expect('spop of the moved', await c.spop('done'), 'c');
  await expectError('unknown', c.call('NO\r\nSUCH', 'a\r\nb'), 'unknown command');
  expect('in step', await c.ping(), 'PONG');
}

async function queuePipelines(c) {
  for (const pipe of [c.pipeline(), c.multi()]) {
    for (const n of numbers(1000)) pipe.sadd('pipe', n);
    const got = results('pipeline', await pipe.scard('pipe').spop('pipe', 1000).exec());
    expect('pipeline', got, [...Array(1000).fill(1), 1000, numbers(1000)]);
  }
  await c.watch('watched');
  await c.sadd('watched', 'other');
  expect('exec of a touched key', await c.multi().sadd('watched', 'mine').exec(), null);
  expect('what it left', await c.spop('watched', 5), ['other']);
}

async function queueKeyspace(c) {
  await c.sadd('paged', ...numbers(500));
  expect('sscan', await pages(c.sscanStream('paged', { count: 10 })), numbers(500).sort());
  await c.sadd('other', 'm');
  expect('scan', await pages(c.scanStream()), ['other', 'paged']);
  expect('type', await c.type('paged'), 'set');
  expect('unlink', await c.unlink('paged', 'nothing'), 1);
  expect('flushall', [await c.flushall(), await c.dbsize()], ['OK', 0]);
}

async function kvValues(c) {
  for (const value of MESSAGES) {
    expect('set', await c.set('schl\u00fcssel-\u2713', value), 'OK');
    expect('get', await c.getBuffer('schl\u00fcssel-\u2713'), value);
  }
  expect('get of nothing', await c.get('nothing'), null);
  expect('nx', [await c.set('t', 'v', 'EX', 9, 'NX'), await c.set('t', 'v', 'NX')], ['OK', null]);
  expect('ttl', [(await c.ttl('t')) >= 8, await c.persist('t'), await c.ttl('t')], [true, 1, -1]);
  expect('mset', await c.mset({ a: 1, b: 2 }), 'OK');
  expect('mget', await c.mget('a', 'nothing', 'b'), ['1', null, '2']);
  expect('numbers', [await c.incr('n'), await c.incrby('n', 9), await c.decr('n')], [1, 10, 9]);
  await expectError('incr of a word', c.set('n', 'ten').then(() => c.incr('n')), 'not an integer');
}

async function kvPipelines(c) {
  for (const pipe of [c.pipeline(), c.multi()]) {
    for (const n of numbers(1000)) pipe.set(`k${n}`, n).get(`k${n}`);
    const got = results('pipeline', await pipe.exec());
    expect('pipeline', got, numbers(1000).flatMap((n) => ['OK', n]));
  }
  await c.watch('watched');
  await c.set('watched', 'other');
  expect('exec of a touched key', await c.multi().set('watched', 'mine').exec(), null);
  expect('what it left', await c.get('watched'), 'other');
  expect('scan', (await pages(c.scanStream({ match: 'k*' }))).length, 1000);
}

const STEPS = {
  queue: [queueMessages, queuePipelines, queueKeyspace],
  kv: [kvValues, kvPipelines],
};

run(async () => {
  const [store, port] = process.argv.slice(2);
  for (const version of [{}, { protocol: 2 }, { protocol: 3 }]) {
    const options = { port: Number(port), retryStrategy: null, lazyConnect: true, ...version };
    const c = new Redis(options);
    c.on('error', (error) => fail(error.stack));
    await c.connect();
    expect('status', c.status, 'ready');
    expect('flushall', await c.flushall(), 'OK');
    for (const step of STEPS[store]) await step(c);
    expect('quit', await c.quit(), 'OK');
  }
});
