import { execFileSync } from 'node:child_process';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runBulk, summarise } from './bulk.ts';
import { PAIRS_AT_ONCE, runCycles } from './connections.ts';
import { startLoad } from './load.ts';
import { startAll, startEpoll, startEpollRelay, startReference, startRelay } from './peers.ts';
import type { StartPeer } from './peers.ts';
import { residentKiB } from './process-memory.ts';
import { Samples, formatTable, ratio } from './table.ts';

const PAIRS = [1, 10, 100, 1000];
const QUICK_PAIRS = [1, 1000];
const WAITING = [0, 5000, 18_000];

/** File descriptors of a peer or the generator besides waiting clients, with a margin. */
const RESERVED_FDS = 500;

const SETUP_TIMEOUT_MS = 120_000;
const KIB = 1024;

/** Speed with growing numbers of pairs and waiting clients. */
export async function growth(bench: Bench): Promise<void> {
  await printPairs(bench);
  await printWaiting(bench);
}

async function printPairs(bench: Bench): Promise<void> {
  const counts = bench.quick ? QUICK_PAIRS : PAIRS;
  const starts = bench.quick ? [startRelay] : [startRelay, startReference, startEpoll(256 * KIB)];
  await using peers = await startAll(bench.programs, starts);
  const cases = peers.all.flatMap((peer) => counts.map((pairs) => ({ peer, pairs })));
  const rounds = bench.quick ? 1 : bench.rounds;
  const results = await interleaved(cases, rounds, ({ peer, pairs }) => runBulk(bench, peer, { pairs }));
  const summaries = results.map(({ benchCase, measured }) => ({ benchCase, bulk: summarise(measured) }));
  const rows = summaries.map(({ benchCase, bulk }) => {
    const singlePair = summaries.find((other) => other.benchCase.peer === benchCase.peer);
    return [
      benchCase.peer.name,
      String(benchCase.pairs),
      bulk.gibPerSecond.format(2),
      bulk.cpuSecondsPerGib.format(2),
      ratio(bulk.gibPerSecond.median, singlePair?.bulk.gibPerSecond.median),
      bulk.generatorLoad.median.toFixed(2),
    ];
  });
  const header = ['peer', 'pairs', 'GiB/s', 'CPU s/GiB', 'of one pair', 'generator load'];
  bench.print(formatTable('Growth: pairs at full speed', header, rows));
}

async function printWaiting(bench: Bench): Promise<void> {
  const limit = fdLimit() - RESERVED_FDS;
  const counts = WAITING.filter((count) => count <= limit);
  if (counts.length < WAITING.length)
    bench.print(`The file descriptor limit is too low for more than ${limit}.\n`);
  const rows: string[][] = [];
  const starts: StartPeer[] = bench.quick ? [startRelay] : [startRelay, startReference, startEpollRelay];
  for (const start of starts) {
    const peer = await start(bench.programs);
    if (peer === null) continue;
    await using resources = new AsyncDisposableStack();
    resources.use(peer);
    let waiting = 0;
    let withoutWaiting: number | undefined;
    for (const count of counts) {
      if (count > waiting) {
        const load = resources.use(startLoad(bench.programs, 'wait', peer, { pairs: count - waiting }));
        await load.waitForOutput(/^waiting$/mu, SETUP_TIMEOUT_MS);
        waiting = count;
      }
      const rounds = bench.quick ? 1 : bench.rounds;
      const [result] = await interleaved([peer], rounds, () => runCycles(bench, peer, PAIRS_AT_ONCE[0]));
      const rate = new Samples(
        (result?.measured ?? []).map((report) => report.get('pairs') / report.get('seconds')),
      );
      withoutWaiting ??= rate.median;
      rows.push([
        peer.name,
        String(count),
        rate.format(0),
        ratio(rate.median, withoutWaiting),
        (residentKiB(peer.pid) / KIB).toFixed(0),
      ]);
    }
  }
  const header = ['peer', 'waiting clients', 'pairs/s', 'of no waiting clients', 'resident MiB'];
  bench.print(formatTable('Growth: connect, handshake, match, close, with waiting clients', header, rows));
}

function fdLimit(): number {
  const text = execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).trim();
  return text === 'unlimited' ? Number.POSITIVE_INFINITY : Number(text);
}
