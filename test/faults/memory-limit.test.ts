import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MAX_HTTP_CONNECTIONS } from '../../src/sessions/http-upgrader.ts';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { encodeFrame } from '../support/frames.ts';
import { freePort } from '../support/listening.ts';
import { MemoryCgroup, skipWithoutCgroups } from '../support/memory-cgroup.ts';
import { scrape } from '../support/metrics.ts';
import { CONDITION_TIMEOUT_MS, Program } from '../support/programs.ts';
import { RelayUnderTest } from './relay-under-test.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import { UPGRADE } from './support/websocket-attacks.ts';

const MiB = 2 ** 20;

const LIMIT_BYTES = 192 * MiB;

/** Node.js options of the image. */
const NODE_OPTIONS = nodeOptions(
  readFileSync(join(import.meta.dirname, '..', '..', 'deploy', 'image', 'transit-relay.sh'), 'utf8'),
);

const SETTINGS = {
  RELAY_BUFFER_MEMORY: '8MiB',
  RELAY_HANDSHAKE_TIMEOUT: '5m',
  NODE_OPTIONS: NODE_OPTIONS.join(' '),
};

/**
 * The limit that the relay derives: connections of 20 KiB, next to 128 MiB for itself and 8 MiB of buffers.
 */
const CONNECTIONS = 2867;

const DERIVED_LIMIT =
  /"max_connections":2867,.*"limited_by":"memory",.*"memory_bytes":201326592,"memory":"container"/u;

/** The connections of these tests have the buffers of this host, for which a small limit has no room. */
const withSocketBuffers = MemoryCgroup.includesSocketBuffers
  ? "the kernel's buffers count in limits of cgroup version 2"
  : false;

const STALLED_PAIRS_ENDED = /"stalled pairs ended:/u;

/** A network namespace in which the kernel buffers 1 MiB for a connection, 512 KiB in each direction. */
const SMALL_BUFFERS = [
  'unshare',
  '--net',
  'sh',
  '-c',
  [
    // The size of packets from other hosts.
    'ip link set lo mtu 1500 up',
    'echo 4096 131072 524288 >/proc/sys/net/ipv4/tcp_rmem',
    'echo 4096 16384 524288 >/proc/sys/net/ipv4/tcp_wmem',
    'exec "$0" "$@"',
  ].join(' && '),
];

/** Pairs that would need 600 MiB of the kernel's memory. */
const STALLING_PAIRS = 300;

/** Bytes that a transfer moves while pairs stall, at least. It moves as many in a second or two. */
const MIN_TRANSFERRED_BYTES = 2 * MiB;

const STALLED_PAIRS = join(import.meta.dirname, 'support', 'stalled-pairs.ts');

/** Number of connections. In each state below they would need more memory than the limit. */
const ATTEMPTED_CONNECTIONS = 9000;

/** Concurrent connection attempts; a pair counts once. */
const AT_ONCE = 50;

/** Time for the relay to read from stalled pairs, in milliseconds. */
const SETTLE_MS = 2000;

/** An order of magnitude above the values on a busy machine. */
const MAX_STALL_MS = 3000;

/** More than the kernel and the relay buffer for a receiver that does not read. */
const STALLING_BYTES = Buffer.alloc(2 * MiB);

/** The same in WebSocket messages. */
const STALLING_FRAMES = Buffer.concat(
  Array.from({ length: 40 }, () => encodeFrame({ opcode: 2, payload: Buffer.alloc(60_000) })),
);

const HALF_A_REQUEST = `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(7500)}`;

/** The part between `node` and the script in the command with which the image starts the relay. */
function nodeOptions(script: string): string[] {
  const [, words] =
    /\n +serve\)\n(?: +#.*\n)* +exec node (--.*) \/app\/src\/transit-relay\.ts /u.exec(script) ?? [];
  assert.ok(words !== undefined, script);
  return words.split(' ');
}

/** The connections of an attack. */
class Attackers implements Disposable {
  readonly #port: number;
  readonly #sockets = new Set<Socket>();

  constructor(port: number) {
    this.#port = port;
  }

  async open(line: string | Buffer): Promise<Socket> {
    const socket = connect({ port: this.#port, host: '127.0.0.1' });
    this.#sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket));
    socket.write(line);
    await Promise.race([once(socket, 'connect'), once(socket, 'close')]);
    return socket;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** The first bytes that a connection receives; empty if it is closed. */
function replyTo(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    socket.once('data', (bytes: Buffer) => resolve(bytes.toString('latin1')));
    socket.once('close', () => resolve(''));
    if (socket.destroyed) resolve('');
  });
}

/**
 * Two clients that were paired, or two that were not. Neither reads, and each sends as much as the other side
 * accepts.
 */
async function stall(sockets: readonly Socket[], lines: readonly Buffer[], bytes: Buffer): Promise<void> {
  for (const [at, socket] of sockets.entries()) socket.write(lines[at] ?? '');
  const answers = sockets.map(async (socket) => {
    const word = await replyTo(socket);
    // The partner of a rejected client would wait.
    if (!word.includes('ok')) for (const one of sockets) one.destroy();
    return word;
  });
  const words = await Promise.all(answers);
  if (words.every((word) => word.includes('ok'))) for (const socket of sockets) socket.pause().write(bytes);
}

interface State {
  readonly name: string;
  /** Connections that `connect` makes. */
  readonly size: number;
  /** Number that stay if a lower limit applies. */
  readonly most: number;
  readonly connect: (attackers: Attackers) => Promise<unknown>;
}

const STATES: readonly State[] = [
  {
    name: 'incomplete requests',
    size: 1,
    most: MAX_HTTP_CONNECTIONS,
    connect: (attackers) => attackers.open(HALF_A_REQUEST),
  },
  {
    name: 'stalled pairs',
    size: 2,
    most: CONNECTIONS,
    connect: async (attackers) => {
      const sockets = await Promise.all([attackers.open(''), attackers.open('')]);
      await stall(
        sockets,
        linesOf((line) => Buffer.from(line)),
        STALLING_BYTES,
      );
    },
  },
  {
    name: 'stalled WebSocket pairs',
    size: 2,
    most: CONNECTIONS,
    connect: async (attackers) => {
      const sockets = await Promise.all([attackers.open(UPGRADE), attackers.open(UPGRADE)]);
      const answers = await Promise.all(sockets.map(replyTo));
      if (!answers.every((answer) => answer.startsWith('HTTP/1.1 101'))) return;
      await stall(
        sockets,
        linesOf((payload) => encodeFrame({ opcode: 2, payload })),
        STALLING_FRAMES,
      );
    },
  },
];

function linesOf(form: (line: string) => Buffer): readonly Buffer[] {
  const token = newToken();
  return [form(handshake(token, SIDE_A)), form(handshake(token, SIDE_B))];
}

describe('the heap limit of the image', { skip: skipWithoutCgroups() }, () => {
  for (const mib of [128, 192, 256, 384, 512, 1024]) {
    test(`is about half of the memory in a container of ${mib} MiB`, async () => {
      await using group = await MemoryCgroup.make(mib * MiB);
      const [file = '', ...args] = [...group.prefix, process.execPath, ...NODE_OPTIONS];
      const { stdout } = spawnSync(file, [...args, '--print', 'v8.getHeapStatistics().heap_size_limit'], {
        encoding: 'utf8',
      });
      const share = Number(stdout) / (mib * MiB);
      assert.ok(share > 0.4 && share < 0.6, `${stdout} of ${mib} MiB`);
    });
  }
});

describe(
  'connections in their worst state, as many as the relay accepts by default',
  {
    skip: skipWithoutCgroups() || withSocketBuffers,
  },
  () => {
    for (const { name, size, most, connect: connectAttackers } of STATES) {
      test(`fit into the memory of the container: ${name}`, async (context) => {
        await using cgroup = await MemoryCgroup.make(LIMIT_BYTES);
        const statusPort = await freePort();
        await using relay = await RelayUnderTest.start(
          { ...SETTINGS, RELAY_STATUS_LISTEN: `tcp:${statusPort}:interface=127.0.0.1` },
          { prefix: cgroup.prefix },
        );
        await using bystander = await Bystander.start({ port: relay.port, pid: relay.pid });
        const idle = await bystander.measure(500);
        using attackers = new Attackers(relay.port);
        const during = await bystander.measureWhile(async () => {
          let left = ATTEMPTED_CONNECTIONS / size;
          const one = async (): Promise<void> => {
            while (left > 0 && cgroup.oomKills === 0) {
              left -= 1;
              await connectAttackers(attackers);
            }
          };
          await Promise.all(Array.from({ length: AT_ONCE }, one));
          await sleep(SETTLE_MS);
        });
        assert.equal(cgroup.oomKills, 0, 'the relay was killed by the OOM killer');
        const figures = await scrape(`http://127.0.0.1:${statusPort}`);
        const open = figures.get('transit_relay_connections_open') ?? 0;
        reportAttack(
          context,
          name,
          idle,
          during,
          `${open} connections`,
          `held ${((figures.get('transit_relay_buffered_bytes') ?? 0) / MiB).toFixed(1)} MiB`,
          `peak ${(cgroup.peakBytes / MiB).toFixed(0)} of ${LIMIT_BYTES / MiB} MiB`,
        );
        assert.equal(relay.count(DERIVED_LIMIT), 1);
        assert.ok(open > 0.9 * most, `only ${open} connections`);
        assert.ok(during.stallMs < MAX_STALL_MS, `a round trip of ${during.stallMs} ms`);
        attackers[Symbol.dispose]();
        await bystander.finish();
        await relay.stop();
      });
    }
  },
);

describe('the buffers of the kernel', { skip: skipWithoutCgroups() }, () => {
  // In version 1 nothing depends on the limit.
  for (const limitBytes of MemoryCgroup.includesSocketBuffers ? [192 * MiB, 256 * MiB] : [192 * MiB]) {
    test(`of stalled pairs do not get the relay killed in ${limitBytes / MiB} MiB, or end a transfer`, async (context) => {
      await using cgroup = await MemoryCgroup.make(limitBytes);
      const settings = { ...SETTINGS, RELAY_MAX_CONNECTIONS: String(3 * STALLING_PAIRS) };
      await using relay = await RelayUnderTest.start(settings, {
        prefix: [...cgroup.prefix, ...SMALL_BUFFERS],
      });
      // The shell in the prefix has been replaced by the relay.
      const sameNetwork = ['nsenter', '--net', `--target=${relay.pid}`];
      await using attackers = new Program([
        ...sameNetwork,
        process.execPath,
        STALLED_PAIRS,
        String(relay.port),
        String(STALLING_PAIRS),
      ]);
      const [, pairs = '', connected = '', transferred = ''] = await attackers.waitForOutput(
        /"pairs":(\d+),"connected":(\d+),"transferred":(\d+)/u,
      );
      context.diagnostic(
        `${connected} of ${2 * Number(pairs)} connections left, ${transferred} bytes transferred, peak ${(cgroup.peakBytes / MiB).toFixed(0)} of ${limitBytes / MiB} MiB`,
      );
      assert.equal(cgroup.oomKills, 0, 'the relay was killed by the OOM killer');
      assert.equal(Number(pairs), STALLING_PAIRS);
      const isGuarded = MemoryCgroup.includesSocketBuffers;
      assert.equal(Number(connected) < 2 * STALLING_PAIRS, isGuarded);
      assert.equal(relay.count(STALLED_PAIRS_ENDED) > 0, isGuarded);
      assert.ok(Number(transferred) > MIN_TRANSFERRED_BYTES, `${transferred} bytes`);
      await attackers.waitForOutput(/"exchanged":100000\b/u);
      assert.equal(cgroup.oomKills, 0, 'the relay was killed by the OOM killer');
      await attackers.succeeds(CONDITION_TIMEOUT_MS);
      await relay.stop();
    });
  }
});
