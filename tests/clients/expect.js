// The checks that both Node client scripts use. They know no client and no daemon.
'use strict';

const { isDeepStrictEqual, inspect } = require('node:util');

const EVERY_BYTE = Buffer.from(Array.from({ length: 256 }, (_, n) => n));

/** Messages that a careless parser loses: empty, with protocol in them, every byte, 1 MiB. */
const MESSAGES = [
  Buffer.alloc(0),
  Buffer.from('\r\n$3\r\nfoo\r\n\0END\r\n'),
  EVERY_BYTE,
  Buffer.alloc(1 << 20, EVERY_BYTE),
  Buffer.from('gr\u00f6\u00dfe \u2713'),
];

/** Ends the script with exit code 1 and one line. */
function fail(message) {
  console.error(`${process.argv.slice(1).join(' ')}: ${message}`);
  process.exit(1);
}

/** Ends the script unless both have the same value and type. */
function expect(what, got, want) {
  if (!isDeepStrictEqual(got, want)) {
    const show = (value) => inspect(value).slice(0, 300);
    fail(`${what}: got ${show(got)}, expected ${show(want)}`);
  }
}

/** Ends the script unless the promise is rejected with `text` in its message. */
async function expectError(what, promise, text) {
  const error = await promise.then((got) => fail(`${what}: got ${inspect(got)}`), (e) => e);
  if (!error.message.includes(text)) fail(`${what}: the error says ${error.message}`);
}

/** Runs the script; whatever it throws ends it, and so does silence for a minute. */
function run(main) {
  setTimeout(() => fail('no answer for 60 seconds'), 60_000).unref();
  main().then(() => process.exit(0), (error) => fail(error.stack));
}

module.exports = { MESSAGES, expect, expectError, fail, run };
