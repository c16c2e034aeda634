// node-redis against mqd: node node_redis.js queue|kv PORT, with its defaults, and again under RESP2
// and RESP3. Needs an mqd of its own: it flushes it.
'use strict';

const { createClient, RESP_TYPES, WatchError } = require('redis');
const { MESSAGES, expect, expectError, fail, run } = require('./expect.js');

const numbers = (count) => Array.from({ length: count }, (_, n) => `${n}`);

async function queueMessages(c, bytes) {
  expect('sAdd', [await c.sAdd('queue', '12'), await c.sAdd('queue', '15')], [1, 1]);
  expect('sCard', await c.sCard('queue'), 2);
  expect('sIsMember', [await c.sIsMember('queue', '10'), await c.sIsMember('queue', '12')], [0, 1]);
  const pops = [await c.sPop('queue'), await c.sPop('queue'), await c.sPop('queue')];
  expect('sPop', pops, ['12', '15', null]);
  for (const name of ['plain', 'schlange-\u2713', '\0\r\n/../']) {
    expect('sAdd many', await c.sAdd(name, MESSAGES), MESSAGES.length);
    expect('sMembers', await bytes.sMembers(name), MESSAGES);
    for (const message of MESSAGES) expect('sPop', await bytes.sPop(name), message);
  }
  await c.sAdd('jobs', ['a', 'b', 'c', 'd']);
  expect('smIsMember', await c.smIsMember('jobs', ['b', 'x']), [1, 0]);
  expect('sRem', await c.sRem('jobs', ['b', 'x']), 1);
  expect('sMove', await c.sMove('jobs', 'done', 'c'), 1);
  expect('sRandMember', await c.sRandMember('jobs'), 'a');
  expect('sPopCount', await c.sPopCount('jobs', 5), ['a', 'd']);
  await expectError('arity', c.sendCommand(['SADD', 'q']), 'wrong number of arguments for');
}

async function queuePipelines(c) {
  const together = await Promise.all(numbers(1000).map((n) => c.sAdd('pipe', n)));
  expect('sAdd in one turn', together, Array(1000).fill(1));
  expect('sPopCount', await c.sPopCount('pipe', 1000), numbers(1000));
  for (const exec of ['exec', 'execAsPipeline']) {
    const multi = c.multi();
    for (const n of numbers(100)) multi.sAdd('multi', n);
    const got = await multi.sCard('multi').sPop('multi').del('multi').sPop('multi')[exec]();
    expect(exec, got, [...Array(100).fill(1), 100, '0', 1, null]);
  }
  await watch(c, () => c.sAdd('watched', 'other'), (multi) => multi.sAdd('watched', 'mine'), 1);
  expect('what the transactions left', await c.sPopCount('watched', 5), ['other', 'mine']);
}

/** A transaction fails when a watched key was touched and passes when it was not. */
async function watch(c, touch, command, want) {
  await c.watch('watched');
  await touch();
  const error = await command(c.multi()).exec().catch((e) => e);
  expect('exec of a touched key', error instanceof WatchError, true);
  await c.watch('watched');
  expect('exec of an untouched key', await command(c.multi()).exec(), [want]);
}

async function queueKeyspace(c) {
  await c.sAdd('paged', numbers(500));
  const seen = new Set();
  const pages = c.sScanIterator('paged', { COUNT: 10 });
  for await (const page of pages) page.forEach((message) => seen.add(message));
  expect('sScan', [...seen].sort(), numbers(500).sort());
  expect('type', await c.type('paged'), 'set');
  expect('exists', await c.exists(['paged', 'nothing']), 1);
  expect('keys', await c.keys('p*'), ['paged']);
  expect('flushDb', [await c.flushDb(), await c.dbSize()], ['OK', 0]);
}

async function kvValues(c, bytes) {
  for (const value of MESSAGES) {
    expect('set', await c.set('schl\u00fcssel-\u2713', value), 'OK');
    expect('get', await bytes.get('schl\u00fcssel-\u2713'), value);
  }
  expect('get of nothing', await c.get('nothing'), null);
  const nx = { condition: 'NX', expiration: { type: 'EX', value: 10 } };
  expect('nx', [await c.set('t', 'v', nx), await c.set('t', 'v', nx)], ['OK', null]);
  expect('ttl', [(await c.ttl('t')) >= 9, await c.persist('t'), await c.ttl('t')], [true, 1, -1]);
  expect('mSet', await c.mSet({ a: '1', b: '2' }), 'OK');
  expect('mGet', await c.mGet(['a', 'nothing', 'b']), ['1', null, '2']);
  expect('numbers', [await c.incr('n'), await c.incrBy('n', 9), await c.decr('n')], [1, 10, 9]);
  await expectError('incr of a word', c.set('n', 'ten').then(() => c.incr('n')), 'not an integer');
  expect('append', [await c.append('text', 'ab'), await c.strLen('text')], [2, 2]);
}

async function kvPipelines(c) {
  await Promise.all(numbers(1000).map((n) => c.set(`k${n}`, n)));
  const got = await Promise.all(numbers(1000).map((n) => c.get(`k${n}`)));
  expect('get in one turn', got, numbers(1000));
  await watch(c, () => c.set('watched', 'other'), (multi) => multi.set('watched', 'mine'), 'OK');
  expect('what the transactions left', await c.get('watched'), 'mine');
  const seen = new Set();
  for await (const page of c.scanIterator({ MATCH: 'k*' })) page.forEach((key) => seen.add(key));
  expect('scan', seen.size, 1000);
  expect('del', await c.del(['k1', 'nothing']), 1);
}

const STEPS = {
  queue: [queueMessages, queuePipelines, queueKeyspace],
  kv: [kvValues, kvPipelines],
};

run(async () => {
  const [store, port] = process.argv.slice(2);
  for (const version of [{}, { RESP: 2 }, { RESP: 3 }]) {
    const c = createClient({ socket: { port: Number(port), reconnectStrategy: false }, ...version });
    c.on('error', (error) => fail(error.stack));
    await c.connect();
    expect('flushAll', await c.flushAll(), 'OK');
    const bytes = c.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    for (const step of STEPS[store]) await step(c, bytes);
    await c.close();
  }
});
