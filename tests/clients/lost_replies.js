// What ioredis does by itself that loses jobs: node lost_replies.js PORT. The README says so, with
// the settings that avoid it. Needs an mqd of its own with a queue store: it flushes it.
'use strict';

const net = require('node:net');
const Redis = require('ioredis');
const { expect, expectError, run } = require('./expect.js');

/** A proxy that ends the connection in place of the next `cuts` answers to a request with `mark`. */
function proxy(port, mark) {
  const state = { cuts: 0, seen: 0 };
  state.server = net.createServer((client) => {
    const server = net.connect(port, '127.0.0.1');
    let isCut = false;
    client.on('data', (request) => {
      if (request.includes(mark)) {
        state.seen += 1;
        isCut = state.cuts > 0;
        state.cuts -= isCut ? 1 : 0;
      }
      server.write(request);
    });
    server.on('data', (answer) => (isCut ? client.destroy() : client.write(answer)));
    client.on('error', () => {}).on('close', () => server.destroy());
    server.on('error', () => {}).on('close', () => client.destroy());
  });
  return new Promise((resolve) => state.server.listen(0, '127.0.0.1', () => resolve(state)));
}

run(async () => {
  const port = Number(process.argv[2]);
  const direct = new Redis({ port, lazyConnect: true });
  await direct.connect();
  await direct.flushall();
  for (const [command, words] of [['spop', ['jobs']], ['sadd', ['jobs', 'fourth']]]) {
    const between = await proxy(port, command);
    for (const options of [{}, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 }]) {
      const isDefault = Object.keys(options).length === 0;
      await direct.del('jobs');
      await direct.sadd('jobs', 'first', 'second', 'third');
      const target = { port: between.server.address().port, lazyConnect: true, ...options };
      const client = new Redis(target);
      client.on('error', () => {});
      await client.connect();
      between.cuts = 1;
      between.seen = 0;
      if (isDefault) {
        const answer = await client.call(command, ...words);
        expect(`${command} that was sent again`, answer, command === 'spop' ? 'second' : 0);
      } else {
        await expectError(`${command} with resending off`, client.call(command, ...words), '');
      }
      expect(`${command} that arrived`, between.seen, isDefault ? 2 : 1);
      client.disconnect();
    }
    between.server.close();
  }
  await direct.flushall();
  await direct.quit();
});
