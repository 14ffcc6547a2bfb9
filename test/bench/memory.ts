import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './bench.ts';
import { nextReport, startLoad } from './load.ts';
import type { LoadOptions } from './load.ts';
import { printMemoryAtRest } from './memory-at-rest.ts';
import { startRelay } from './peers.ts';
import type { Peer } from './peers.ts';
import { residentKiB } from './process-memory.ts';
import { Samples, formatTable } from './table.ts';

/** The measured state, and how the generator creates it. */
export interface MemoryCase {
  readonly what: string;
  readonly mode: 'wait' | 'stall';
  readonly options: LoadOptions & { readonly pairs: number };
}

const WAITING = 15_000;
const PAIRS = 1000;

/** Long enough for every pair to run at full speed. */
const FAST_SECONDS = 4;

const SETUP_TIMEOUT_MS = 60_000;

const KIB_PER_MIB = 1024;

/** Memory of programs at rest, and of our relay for idle connections and for stalled pairs. */
export async function memory(bench: Bench): Promise<void> {
  await printMemoryAtRest(bench);
  await printMemoryOfConnections(bench);
}

async function printMemoryOfConnections(bench: Bench): Promise<void> {
  const cases: MemoryCase[] = [
    { what: 'waiting client, TCP', mode: 'wait', options: { pairs: WAITING } },
    { what: 'pair stalled from the start', mode: 'stall', options: { pairs: PAIRS } },
    {
      what: 'pair stalled after full speed',
      mode: 'stall',
      options: { pairs: PAIRS, warmUp: bench.quick ? 1 : FAST_SECONDS },
    },
  ];
  if (!bench.quick) {
    cases.splice(1, 0, {
      what: 'waiting client, WebSocket',
      mode: 'wait',
      options: { pairs: WAITING, from: 'websocket', to: 'websocket' },
    });
    cases.push({
      what: 'pair stalled after full speed, WebSocket',
      mode: 'stall',
      options: { pairs: PAIRS, warmUp: FAST_SECONDS, from: 'websocket', to: 'websocket' },
    });
  }
  const rounds = bench.quick ? 1 : Math.min(bench.rounds, 3);
  const rows: string[][] = [];
  for (const memoryCase of cases) {
    const measured: { before: number; grown: number }[] = [];
    for (let round = 0; round < rounds; round += 1)
      measured.push(await measureMemory(bench, memoryCase, startRelay));
    const { pairs: count } = memoryCase.options;
    rows.push([
      memoryCase.what,
      String(count),
      new Samples(measured.map(({ grown }) => grown / count)).format(1),
      new Samples(measured.map(({ before }) => before / KIB_PER_MIB)).median.toFixed(0),
      new Samples(measured.map(({ before, grown }) => (before + grown) / KIB_PER_MIB)).median.toFixed(0),
    ]);
  }
  const header = ['what', 'how many', 'KiB each', 'MiB before', 'MiB with them'];
  bench.print(formatTable("Memory: our relay's resident set, a new process each time", header, rows));
}

/** In KiB. The peer is a new process, because a process seldom returns memory. */
export async function measureMemory(
  bench: Bench,
  { mode, options }: MemoryCase,
  start: () => Promise<Peer>,
): Promise<{ before: number; grown: number }> {
  await using peer = await start();
  const before = residentKiB(peer.pid);
  await using load = startLoad(bench.programs, mode, peer, options);
  if (mode === 'wait') await load.waitForOutput(/^waiting$/mu, SETUP_TIMEOUT_MS);
  else await nextReport(load);
  await sleep(bench.quick ? 300 : 1500);
  const grown = residentKiB(peer.pid) - before;
  load.endInput();
  await load.succeeds(SETUP_TIMEOUT_MS);
  return { before, grown };
}
