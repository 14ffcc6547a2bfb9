import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { RelayProcess } from '../support/relay-process.ts';
import { SidecarProcess } from '../support/sidecar-process.ts';
import { createUsageFile } from '../support/usage-files.ts';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { GIB, runBulk } from './bulk.ts';
import { PINNED } from './cores.ts';
import type { Report } from './load.ts';
import type { Peer } from './peers.ts';
import { Samples, formatTable } from './table.ts';

const PAIRS = 8;
const ROWS = 10_000_000;
const QUICK_ROWS = 1_000_000;

/**
 * Effect of the sidecar on a transfer while it continuously takes snapshots of a large database, or creates
 * reports.
 */
const CASES = ['nothing', 'snapshots', 'reports of all records'] as const;

interface Round {
  readonly report: Report;
  /** Duration of each request to the sidecar, in seconds; an unfinished one is left out. */
  readonly requestSeconds: readonly number[];
}

/** Ping-pong and eight pairs at full speed, next to a sidecar that is busy with the relay's database. */
export async function snapshot(bench: Bench): Promise<void> {
  const rows = bench.quick ? QUICK_ROWS : ROWS;
  const databasePath = join(bench.programs.directory, 'usage.sqlite');
  createUsageFile(databasePath, { rows });
  await using relay = await RelayProcess.start({ RELAY_USAGE_DB: databasePath }, PINNED.peer);
  await using sidecar = await SidecarProcess.start({
    SIDECAR_USAGE_DB: databasePath,
    SIDECAR_SNAPSHOT_DIR: join(bench.programs.directory, 'snapshots'),
    SIDECAR_SNAPSHOT_EVERY: '24d',
    SIDECAR_SNAPSHOT_KEEP: '1',
  });
  // The first snapshot is taken at the start.
  await sidecar.waitForLog(/snapshot taken/u);
  const peer: Peer = {
    name: 'relay',
    pid: relay.pid,
    tcpPort: relay.port('raw'),
    websocketPort: null,
    tlsPort: null,
    sinkPort: null,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const requests = {
    nothing: null,
    snapshots: () => fetch(`${sidecar.url}/snapshots`, { method: 'POST' }),
    // Responses are cached per query, so each request uses another one.
    'reports of all records': () => fetch(`${sidecar.url}/usage.json?by=month&from=${nextFrom()}`),
  };
  const results = await interleaved(CASES, bench.rounds, (benchCase) =>
    measureWithRequests(bench, peer, requests[benchCase]),
  );
  const table = results.map(({ benchCase, measured }) => {
    const each = (value: (report: Report) => number): Samples =>
      new Samples(measured.map(({ report }) => value(report)));
    const seconds = new Samples(measured.flatMap(({ requestSeconds }) => requestSeconds));
    return [
      benchCase,
      each((report) => report.get('bytes') / GIB / report.get('seconds')).format(2),
      each((report) => report.get('p50Seconds') * 1000).format(2),
      each((report) => report.get('p99Seconds') * 1000).format(2),
      Number.isNaN(seconds.median) ? '–' : seconds.format(1),
    ];
  });
  const size = bytesOf(databasePath) / 1e6;
  bench.print(
    formatTable(
      `Sidecar next to ${PAIRS} pairs at full speed and a ping-pong of 1 KiB messages: ${rows} records, ${size.toFixed(0)} MB`,
      ['sidecar load', 'GiB/s of all', 'p50 ms', 'p99 ms', 's per request'],
      table,
    ),
  );
}

let from = 1_500_000_000;

function nextFrom(): number {
  from += 1;
  return from;
}

/** Last duration of each kind of request, and the number of measurements; in seconds. */
const lastDurations = new Map<unknown, { readonly seconds: number; readonly rounds: number }>();

/** Measures while requests run one after the other, each time in another part of a request. */
async function measureWithRequests(
  bench: Bench,
  peer: Peer,
  request: (() => Promise<Response>) | null,
): Promise<Round> {
  const requestSeconds: number[] = [];
  const measured = new AbortController();
  async function repeat(send: () => Promise<Response>): Promise<void> {
    while (!measured.signal.aborted) {
      const started = performance.now();
      const response = await send();
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`the sidecar answered with status ${response.status}`);
      requestSeconds.push((performance.now() - started) / 1000);
    }
  }
  const { seconds, rounds } = lastDurations.get(request) ?? { seconds: 0, rounds: 0 };
  const requestsDone = request === null ? Promise.resolve() : repeat(request);
  await sleep(((rounds % bench.rounds) / bench.rounds) * seconds * 1000);
  const report = await runBulk(bench, peer, { pairs: PAIRS, pingPong: true });
  measured.abort();
  await requestsDone;
  lastDurations.set(request, { seconds: requestSeconds.at(-1) ?? 0, rounds: rounds + 1 });
  return { report, requestSeconds };
}

function bytesOf(path: string): number {
  const database = new Database(path, { readonly: true });
  try {
    return (
      Number(database.pragma('page_count', { simple: true })) *
      Number(database.pragma('page_size', { simple: true }))
    );
  } finally {
    database.close();
  }
}
