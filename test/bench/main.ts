import { parseArgs } from 'node:util';
import { findProgram } from '../support/programs.ts';
import type { Bench } from './bench.ts';
import { cluster } from './cluster.ts';
import { connections } from './connections.ts';
import { fairness } from './fairness.ts';
import { growth } from './growth.ts';
import { health } from './health.ts';
import { kernelMemory } from './kernel-memory.ts';
import { memory } from './memory.ts';
import { rates } from './rates.ts';
import { snapshot } from './snapshot.ts';
import { throughput } from './throughput.ts';
import { tls } from './tls.ts';
import { websocket } from './websocket.ts';
import { BenchPrograms } from './workshop.ts';

interface Scenario {
  readonly run: (bench: Bench) => Promise<void>;
  /** For the help. */
  readonly what: string;
}

/** Of the first column of the help. */
const WIDTH = 22;

/**
 * Compares our relay with other programs on this machine: `npm run bench -- --help`. Each number is a median
 * with the minimum and the maximum in parentheses.
 *
 * The peer has one core and the generator another. If `generator load` is near 1, the generator is as much a
 * bottleneck as the peer, and CPU seconds per GiB say more than GiB per second.
 */
const SCENARIOS: ReadonlyMap<string, Scenario> = new Map([
  ['throughput', { run: throughput, what: 'one pair and 16 at full speed, one way and both ways' }],
  ['websocket', { run: websocket, what: 'the same with WebSocket clients' }],
  ['tls', { run: tls, what: 'the same with TLS clients, and their memory' }],
  ['memory', { run: memory, what: 'memory of programs at rest, of idle clients and of stalled pairs' }],
  [
    'kernel-memory',
    {
      run: kernelMemory,
      what: 'kernel memory of stalled pairs, and throughput over 50 ms, with the TCP buffers of this machine and of compose',
    },
  ],
  ['fairness', { run: fairness, what: 'round trips beside eight pairs at full speed' }],
  ['connections', { run: connections, what: 'pairs that are made and closed, and a burst of clients' }],
  ['growth', { run: growth, what: 'speed with many pairs and with many waiting clients' }],
  ['rates', { run: rates, what: 'accuracy and cost of RELAY_TOTAL_RATE and RELAY_PAIR_RATE' }],
  ['health', { run: health, what: 'cost of one health check, with idle and with busy processors' }],
  ['snapshot', { run: snapshot, what: 'transfers while the sidecar reads a large database' }],
  ['cluster', { run: cluster, what: 'a cluster of relays compared with a single one' }],
]);

const HELP = `npm run bench -- [OPTION...]

  --only NAME,NAME      run these scenarios only
  --quick               measure for a shorter time, and fewer cases
  --rounds NUMBER       measurements of each case; 5, or 3 with --quick

Scenarios:
${[...SCENARIOS].map(([name, { what }]) => `  ${name.padEnd(WIDTH)}${what}`).join('\n')}

The part of kernel-memory that changes buffer sizes needs root in a network namespace of its own, in which all scenarios run:
  unshare --net sh -c 'ip link set lo up; npm run bench'`;

const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string' },
  },
});

// Child processes end with this process, which ends on a signal.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

const compiler = findProgram('cc');
if (values.help) print(HELP);
else if (compiler === null) print('The load generator is written in C: a compiler named cc is needed.');
else await run(compiler);

async function run(cc: string): Promise<void> {
  const names = values.only?.split(',') ?? [...SCENARIOS.keys()];
  const unknown = names.filter((name) => !SCENARIOS.has(name));
  if (unknown.length > 0) {
    print(`not a scenario: ${unknown.join(', ')}; there are ${[...SCENARIOS.keys()].join(', ')}`);
    process.exitCode = 2;
    return;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) {
    print(`not a number of rounds: ${values.rounds}`);
    process.exitCode = 2;
    return;
  }
  using programs = new BenchPrograms(cc);
  const bench: Bench = {
    programs,
    quick: values.quick,
    rounds,
    seconds: values.quick ? 0.25 : 2,
    warmUp: values.quick ? 0.15 : 0.5,
    print,
  };
  for (const [name, { run: scenario }] of SCENARIOS) {
    if (!names.includes(name)) continue;
    try {
      await scenario(bench);
    } catch (error) {
      process.exitCode = 1;
      for (const reason of reasons(error)) print(`${name} failed: ${reason.message}\n`);
    }
  }
}

/** A failed peer fails the generator first, and then its own disposal: both errors are reported. */
function reasons(error: unknown): Error[] {
  if (error instanceof SuppressedError) return [...reasons(error.error), ...reasons(error.suppressed)];
  return [error instanceof Error ? error : new Error(String(error))];
}
