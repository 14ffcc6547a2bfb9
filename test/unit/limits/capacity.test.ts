import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import {
  computeCapacity,
  connectionsWithinFds,
  fdLimit,
  resolveCapacity,
} from '../../../src/limits/capacity.ts';
import type { Capacity, ProcessLimits, Resources } from '../../../src/limits/capacity.ts';
import { scratch } from '../../support/scratch.ts';

function configOf(environment: Readonly<Record<string, string>>): RelayConfig {
  const read = readRelayConfig(environment, 0);
  assert.ok(read.kind === 'ok', JSON.stringify(read));
  return read.config;
}

const { limits: DEFAULTS } = configOf({});

const STANDALONE = { hasTls: false, isClustered: false, hasTcp: true };

const MiB = 2 ** 20;

/** Enough of everything to reach the default limit. */
const PLENTY: Resources = {
  fds: 1_048_576,
  memoryBytes: 2 ** 40,
  bufferBytes: 64 * MiB,
  socketBuffers: null,
};

/** 144 KiB, on a host with 24 GiB. */
const SOCKET_BUFFERS = { bytesPerConnection: 147_456, maxTotalBytes: 2304 * MiB };

describe('the connection capacity', () => {
  const cases: readonly (readonly [
    name: string,
    limits: Partial<RelayConfig['limits']>,
    resources: Partial<Resources>,
    capacity: Capacity,
  ])[] = [
    [
      'nothing configured: limited by file descriptors',
      {},
      { fds: 1024 },
      { maxConnections: 896, maxWaiting: 448, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'plenty of everything: the default limit',
      {},
      {},
      { maxConnections: 65_536, maxWaiting: 32_768, fdCapacity: 1_048_448, limitedBy: 'default' },
    ],
    [
      'little memory: 832 MiB for connections of 20 KiB each',
      {},
      { memoryBytes: 1024 * MiB },
      { maxConnections: 42_598, maxWaiting: 21_299, fdCapacity: 1_048_448, limitedBy: 'memory' },
    ],
    [
      'buffers as large as the memory: the minimum number of connections',
      {},
      { memoryBytes: 1024 * MiB, bufferBytes: 2048 * MiB },
      { maxConnections: 100, maxWaiting: 50, fdCapacity: 1_048_448, limitedBy: 'memory' },
    ],
    [
      'hardly any memory and even fewer file descriptors',
      {},
      { memoryBytes: 64 * MiB, fds: 178 },
      { maxConnections: 50, maxWaiting: 25, fdCapacity: 50, limitedBy: 'file descriptors' },
    ],
    [
      'a configured odd limit: the waiting limit is rounded up',
      { maxConnections: 7 },
      { fds: 1024 },
      { maxConnections: 7, maxWaiting: 4, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
    [
      'a configured limit above the file descriptors: lowered to them',
      { maxConnections: 5000 },
      { fds: 1024, memoryBytes: 256 * MiB },
      { maxConnections: 896, maxWaiting: 448, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'no connection limit: limited by file descriptors',
      { maxConnections: null },
      { fds: 1024 },
      { maxConnections: 896, maxWaiting: 448, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'no waiting limit',
      { maxWaiting: null },
      { fds: 1024 },
      { maxConnections: 896, maxWaiting: null, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'a configured waiting limit',
      { maxWaiting: 9 },
      { fds: 1024 },
      { maxConnections: 896, maxWaiting: 9, fdCapacity: 896, limitedBy: 'file descriptors' },
    ],
    [
      'both limits configured',
      { maxConnections: 10, maxWaiting: 3 },
      { fds: 1024 },
      { maxConnections: 10, maxWaiting: 3, fdCapacity: 896, limitedBy: 'RELAY_MAX_CONNECTIONS' },
    ],
  ];
  for (const [name, limits, resources, capacity] of cases) {
    test(`with ${name}`, () => {
      assert.deepEqual(
        computeCapacity({ ...DEFAULTS, ...limits }, { ...PLENTY, ...resources }, STANDALONE),
        capacity,
      );
    });
  }

  test('is smaller with TLS, unless a limit is configured', () => {
    const capacity = (limits: Partial<RelayConfig['limits']>, resources: Partial<Resources>): number =>
      computeCapacity(
        { ...DEFAULTS, ...limits },
        { ...PLENTY, ...resources },
        { ...STANDALONE, hasTls: true },
      ).maxConnections;
    assert.deepEqual([capacity({}, {}), capacity({}, { fds: 1024 })], [8192, 896]);
    // 320 MiB for connections, of 120 KiB each.
    assert.equal(capacity({}, { memoryBytes: 512 * MiB }), 2730);
    assert.equal(capacity({ maxConnections: 20_000 }, {}), 20_000);
  });

  test('is smaller in a cluster, because each client may need a link', () => {
    const needs = { ...STANDALONE, isClustered: true };
    const capacity = computeCapacity(DEFAULTS, { ...PLENTY, fds: 1024 }, needs);
    assert.deepEqual(capacity, {
      maxConnections: 400,
      maxWaiting: 200,
      fdCapacity: 400,
      limitedBy: 'file descriptors',
    });
    assert.equal(
      computeCapacity(DEFAULTS, { ...PLENTY, memoryBytes: 1024 * MiB }, needs).maxConnections,
      21_299,
    );
  });

  describe('where the buffers of the kernel count', () => {
    const capacity = (
      memoryMiB: number,
      needs = STANDALONE,
      socketBuffers = SOCKET_BUFFERS,
    ): readonly [number, string] => {
      const resources = { ...PLENTY, memoryBytes: memoryMiB * MiB, socketBuffers };
      const { maxConnections, limitedBy } = computeCapacity(DEFAULTS, resources, needs);
      return [maxConnections, limitedBy];
    };

    test('leaves room for the initial buffers of each connection', () => {
      // 832 MiB, and 164 KiB for each.
      assert.deepEqual(capacity(1024), [5194, 'memory']);
      assert.deepEqual(capacity(512), [1998, 'memory']);
    });

    test('is smaller in a cluster and with TLS', () => {
      assert.deepEqual(capacity(1024, { ...STANDALONE, isClustered: true }), [2597, 'memory']);
      assert.deepEqual(capacity(1024, { ...STANDALONE, hasTls: true }), [3227, 'memory']);
    });

    test('counts TCP connections only', () => {
      const unix = { ...STANDALONE, hasTcp: false };
      assert.deepEqual(capacity(1024, unix), [42_598, 'memory']);
      assert.deepEqual(capacity(1024, { ...unix, isClustered: true }), [4630, 'memory']);
    });

    test('is larger if the buffers of the whole host fit', () => {
      // A host with 4 GiB: 384 MiB of buffers, and 448 MiB for connections of 20 KiB.
      assert.deepEqual(capacity(1024, STANDALONE, { ...SOCKET_BUFFERS, maxTotalBytes: 384 * MiB }), [
        22_937,
        'memory',
      ]);
      assert.deepEqual(capacity(16_384), [65_536, 'default']);
    });

    test('is never below the minimum', () => {
      assert.deepEqual(capacity(200), [100, 'memory']);
      assert.deepEqual(capacity(64), [100, 'memory']);
    });

    test('is as configured', () => {
      const resources = { ...PLENTY, memoryBytes: 1024 * MiB, socketBuffers: SOCKET_BUFFERS };
      const limits = { ...DEFAULTS, maxConnections: 10_000 };
      assert.equal(computeCapacity(limits, resources, STANDALONE).maxConnections, 10_000);
    });
  });
});

const MODULE = new URL('../../../src/limits/capacity.ts', import.meta.url).href;

/** As Linux 6.12 prints it, after a similar line that must be ignored. */
function limitsFile(openFiles: string): string {
  return `Limit                     Soft Limit           Hard Limit           Units     
Max processes             63432                63432                processes 
${openFiles}Max locked memory         8388608              8388608              bytes     
`;
}

describe('the file descriptor limit', () => {
  const files: readonly (readonly [name: string, text: string, limit: number])[] = [
    [
      'a soft limit',
      'Max open files            2048                 524288               files     \n',
      2048,
    ],
    [
      'no limit',
      'Max open files            unlimited            unlimited            files     \n',
      Infinity,
    ],
    [
      'a soft limit and no hard limit',
      'Max open files            300                  unlimited            files     \n',
      300,
    ],
    ['no such line', '', 1024],
    [
      'a value that is not a number',
      'Max open files            many                 many                 files     \n',
      1024,
    ],
  ];
  for (const [name, line, limit] of files) {
    test(`is read from a file with ${name}`, async (context) => {
      const path = join(await scratch(context), 'limits');
      await writeFile(path, limitsFile(line));
      assert.equal(fdLimit(path), limit);
    });
  }

  test('falls back to 1024 if the file cannot be read', async (context) => {
    const directory = await scratch(context);
    assert.equal(fdLimit(join(directory, 'gone')), 1024);
    assert.equal(fdLimit(directory), 1024);
  });

  test('is the limit of this process', { skip: process.platform !== 'linux' }, () => {
    const script = `import { fdLimit } from ${JSON.stringify(MODULE)}; console.log(fdLimit());`;
    // Sets the hard limit as well: Node raises its soft limit to it.
    const command = 'ulimit -n 333 && exec "$0" --input-type=module -e "$1"';
    const output = execFileSync('sh', ['-c', command, process.execPath, script], { encoding: 'utf8' });
    assert.equal(output, '333\n');
  });
});

describe('the number of connections within a file descriptor limit', () => {
  const cases: readonly (readonly [fds: number, fits: number])[] = [
    // 64 are reserved for everything else, and 64 for clients that are being rejected.
    [1024, 896],
    [524_288, 524_160],
    [130, 2],
    [129, 1],
    // There is always one connection.
    [128, 1],
    [100, 1],
    [0, 1],
    [Infinity, Infinity],
  ];
  for (const [fds, fits] of cases) {
    test(`is ${fits} for ${fds}`, () => {
      assert.equal(connectionsWithinFds(fds, false), fits);
    });
  }

  test('is less than half in a cluster, because each client may need a link', () => {
    const fits = [Infinity, 20_000, 1024, 229, 228, 226, 0].map((fds) => connectionsWithinFds(fds, true));
    assert.deepEqual(fits, [Infinity, 9888, 400, 2, 2, 1, 1]);
  });
});

const CLUSTER = {
  RELAY_CLUSTER_URL: 'redis://coordinator',
  RELAY_CLUSTER_SECRET: 'the secret of the cluster',
};

/** The capacity of a relay with the limits of this process. */
function capacityOf(environment: Readonly<Record<string, string>>): Capacity {
  return resolveCapacity(configOf(environment), pino({ enabled: false }));
}

/** What a relay with these limits logs when it starts. */
function logOf(
  environment: Readonly<Record<string, string>>,
  {
    fds = 1_048_576,
    memory,
    socketBuffers = SOCKET_BUFFERS,
  }: Partial<ProcessLimits> & Pick<ProcessLimits, 'memory'>,
): readonly Readonly<Record<string, unknown>>[] {
  const lines: string[] = [];
  const output = new Writable({
    write(chunk, _, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const options = { base: null, timestamp: false, formatters: { level: (level: string) => ({ level }) } };
  const limits = { fds, memory, socketBuffers };
  const { details } = resolveCapacity(configOf(environment), pino(options, output), limits);
  return [...lines.map((line) => JSON.parse(line)), { level: 'info', ...details }];
}

describe('the capacity of a relay', () => {
  test('reserves a file descriptor for the link of each client in a cluster', () => {
    const open = fdLimit();
    assert.equal(capacityOf({}).fdCapacity, open - 128);
    assert.equal(capacityOf(CLUSTER).fdCapacity, Math.floor((open - 128 - 96) / 2));
  });

  test('is the same with TLS on links as with TLS on client connections', () => {
    const plain = capacityOf(CLUSTER).maxConnections;
    assert.ok(plain > 8192, 'the file descriptor limit is at least 20,000');
    assert.equal(capacityOf({ ...CLUSTER, RELAY_CLUSTER_TLS: 'true' }).maxConnections, 8192);
  });

  test('is reported with the reason and the numbers', () => {
    const memory = { bytes: 512 * MiB, source: 'container', cgroup2: null } as const;
    assert.deepEqual(logOf({}, { memory }), [
      {
        level: 'info',
        max_connections: 16_384,
        max_waiting: 8192,
        limited_by: 'memory',
        file_descriptors: 1_048_576,
        buffer_bytes: 64 * MiB,
        memory_bytes: 512 * MiB,
        memory: 'container',
        bytes_per_connection: 20_480,
        socket_buffer_bytes: 0,
      },
    ]);
    const limitedBy = (
      environment: Readonly<Record<string, string>>,
      limits: Omit<ProcessLimits, 'socketBuffers'>,
    ): unknown => logOf(environment, limits).at(-1)?.['limited_by'];
    const machine = { bytes: 2 ** 36, source: 'machine', cgroup2: null } as const;
    assert.equal(limitedBy({}, { memory: machine, fds: 1024 }), 'file descriptors');
    assert.equal(limitedBy({}, { memory: machine, fds: 1_048_576 }), 'default');
    const configured = { RELAY_MAX_CONNECTIONS: '500' };
    assert.equal(limitedBy(configured, { memory: machine, fds: 1024 }), 'RELAY_MAX_CONNECTIONS');
    assert.equal(limitedBy(configured, { memory: machine, fds: 300 }), 'file descriptors');
  });

  test('warns about more configured connections than file descriptors', () => {
    const warnings = (maxConnections: string): unknown[] =>
      logOf(
        { RELAY_MAX_CONNECTIONS: maxConnections },
        { memory: { bytes: 2 ** 36, source: 'machine', cgroup2: null }, fds: 1024 },
      )
        .filter(({ level }) => level === 'warn')
        .map(({ configured, fits, file_descriptors: fileDescriptors }) => [
          configured,
          fits,
          fileDescriptors,
        ]);
    assert.deepEqual(warnings('896'), []);
    assert.deepEqual(warnings('897'), [[897, 896, 1024]]);
    assert.deepEqual(warnings('auto'), []);
  });

  test('warns about more waiting clients than connections', () => {
    const memory = { bytes: 2 ** 36, source: 'machine', cgroup2: null } as const;
    const warnings = (environment: Readonly<Record<string, string>>): unknown[] =>
      logOf(environment, { memory, fds: 1024 })
        .filter(({ level }) => level === 'warn')
        .map(({ event, msg }) => `${String(event)}: ${String(msg)}`);
    assert.deepEqual(warnings({ RELAY_MAX_WAITING: '896' }), []);
    assert.deepEqual(warnings({ RELAY_MAX_WAITING: '' }), []);
    assert.deepEqual(warnings({ RELAY_MAX_WAITING: '897' }), [
      'setting_without_effect: RELAY_MAX_WAITING has no effect because it is above the number of connections',
    ]);
    // The configuration warns about this.
    assert.deepEqual(warnings({ RELAY_MAX_WAITING: '11', RELAY_MAX_CONNECTIONS: '10' }), []);
  });

  test("is reported with the kernel's part if it counts", () => {
    const log = (environment: Readonly<Record<string, string>> = {}): unknown[] =>
      logOf(environment, {
        memory: { bytes: 1024 * MiB, source: 'container', cgroup2: '/sys/fs/cgroup' },
      }).map(({ level, max_connections: maxConnections, socket_buffer_bytes: socketBufferBytes }) => [
        level,
        maxConnections,
        socketBufferBytes,
      ]);
    assert.deepEqual(log(), [['info', 5194, 147_456]]);
    assert.deepEqual(log(CLUSTER), [['info', 2597, 294_912]]);
    assert.deepEqual(log({ RELAY_LISTEN: 'unix:/run/relay.sock' }), [['info', 42_598, 0]]);
    // The memory guard ends pairs if too many stall.
    assert.deepEqual(log({ RELAY_MAX_CONNECTIONS: '10000' }), [['info', 10_000, 147_456]]);
  });

  test('warns about too little memory for the buffers or for the configured connections', () => {
    const memory = { bytes: 256 * MiB, source: 'container', cgroup2: null } as const;
    const warnings = (environment: Readonly<Record<string, string>>): unknown[] =>
      logOf(environment, { memory })
        .filter(({ level }) => level === 'warn')
        .map(({ configured, fits, msg }) => [configured, fits, String(msg).slice(0, 31)]);
    assert.deepEqual(warnings({}), []);
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '3276' }), []);
    const tooMany = 'RELAY_MAX_CONNECTIONS exceeds t';
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '3277' }), [[3277, 3276, tooMany]]);
    assert.deepEqual(warnings({ RELAY_MAX_CONNECTIONS: '' }), [[1_048_448, 3276, tooMany]]);
    const tooLarge = 'RELAY_BUFFER_MEMORY leaves too ';
    assert.deepEqual(warnings({ RELAY_BUFFER_MEMORY: '127MiB' }), [[undefined, undefined, tooLarge]]);
    assert.deepEqual(warnings({ RELAY_BUFFER_MEMORY: '126MiB' }), []);
  });
});
