import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { readRelayConfig } from '../src/config/relay-config.ts';
import { fdLimit, resolveCapacity } from '../src/limits/capacity.ts';
import type { Capacity, ProcessLimits } from '../src/limits/capacity.ts';

const GROUP = {
  RELAY_CLUSTER_URL: 'redis://coordinator',
  RELAY_CLUSTER_SECRET: 'the secret of the group',
};

/** What a relay with the limits of this very process has. */
function roomOf(environment: Readonly<Record<string, string>>): Capacity {
  const read = readRelayConfig(environment, 0);
  assert.ok(read.kind === 'ok');
  return resolveCapacity(read.config, pino({ enabled: false }));
}

const MiB = 2 ** 20;

/** What a relay with these limits logs at its start. */
function logOf(
  environment: Readonly<Record<string, string>>,
  { fds: openFiles = 1_048_576, memory }: Partial<ProcessLimits> & Pick<ProcessLimits, 'memory'>,
): readonly Readonly<Record<string, unknown>>[] {
  const lines: string[] = [];
  const output = new Writable({
    write(chunk, _, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const read = readRelayConfig(environment, 0);
  assert.ok(read.kind === 'ok');
  const options = { base: null, timestamp: false, formatters: { level: (level: string) => ({ level }) } };
  resolveCapacity(read.config, pino(options, output), { fds: openFiles, memory });
  return lines.map((line) => JSON.parse(line));
}

describe('the room for clients of a relay', () => {
  test('leaves each client of a group a descriptor for its link', () => {
    const open = fdLimit();
    assert.equal(roomOf({}).fdCapacity, open - 128);
    assert.equal(roomOf(GROUP).fdCapacity, Math.floor((open - 128 - 96) / 2));
  });

  test('is as much smaller where links are encrypted as where clients are', () => {
    const plain = roomOf(GROUP).maxConnections ?? 0;
    assert.ok(plain > 8192, 'the limit of open files is 20,000 at least');
    assert.equal(roomOf({ ...GROUP, RELAY_CLUSTER_TLS: 'true' }).maxConnections, 8192);
  });

  test('is logged with what it follows from, and the numbers', () => {
    const memory = { bytes: 512 * MiB, source: 'container' } as const;
    assert.deepEqual(logOf({}, { memory }), [
      {
        level: 'info',
        maxConnections: 16_384,
        maxWaiting: 8192,
        follows: 'memory',
        openFiles: 1_048_576,
        bufferBytes: 64 * MiB,
        memoryBytes: 512 * MiB,
        memory: 'container',
        bytesPerConnection: 20_480,
        msg: 'room for clients',
      },
    ]);
    const follows = (environment: Readonly<Record<string, string>>, limits: ProcessLimits): unknown =>
      logOf(environment, limits).at(-1)?.['follows'];
    const machine = { bytes: 2 ** 36, source: 'machine' } as const;
    assert.equal(follows({}, { memory: machine, fds: 1024 }), 'file descriptors');
    assert.equal(follows({}, { memory: machine, fds: 1_048_576 }), 'default');
    const asked = { RELAY_MAX_CONNECTIONS: '500' };
    assert.equal(follows(asked, { memory: machine, fds: 1024 }), 'RELAY_MAX_CONNECTIONS');
    assert.equal(follows(asked, { memory: machine, fds: 300 }), 'file descriptors');
  });

  test('is warned of where memory for buffers, or for as many connections as were asked for, is too little', () => {
    const memory = { bytes: 256 * MiB, source: 'container' } as const;
    const warnings = (environment: Readonly<Record<string, string>>): unknown[] =>
      logOf(environment, { memory })
        .filter(({ level }) => level === 'warn')
        .map(({ asked, fits, msg }) => [asked, fits, String(msg).slice(0, 31)]);
    assert.deepEqual(warnings({}), []);
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '3276' }), []);
    const tooMany = 'RELAY_MAX_CONNECTIONS is more t';
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '3277' }), [[3277, 3276, tooMany]]);
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '' }), [[1_048_448, 3276, tooMany]]);
    const tooLarge = 'RELAY_BUFFER_MEMORY does not fi';
    assert.deepEqual(warnings({ RELAY_BUFFER_MEMORY: '127MiB' }), [[undefined, undefined, tooLarge]]);
    assert.deepEqual(warnings({ RELAY_BUFFER_MEMORY: '126MiB' }), []);
  });
});
