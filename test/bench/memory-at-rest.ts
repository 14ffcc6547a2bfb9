import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/listening.ts';
import { Program, findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { SidecarProcess } from '../support/sidecar-process.ts';
import type { Bench } from './bench.ts';
import { startReference, startTlsRelay } from './peers.ts';
import { memoryOf } from './process-memory.ts';
import type { MemoryUse } from './process-memory.ts';
import { Samples, formatTable } from './table.ts';
import type { BenchPrograms } from './workshop.ts';

/** After the start, so that what the start has allocated is collected, and the sidecar's job processes have ended. */
const REST_SECONDS = 45;
const QUICK_REST_SECONDS = 5;

const KIB_PER_MIB = 1024;

const ANY = 'tcp:0:interface=127.0.0.1';

interface Resting extends AsyncDisposable {
  readonly pid: number;
}

/** Null if the program is not installed. */
const PROGRAMS: ReadonlyMap<string, (programs: BenchPrograms) => Promise<Resting | null>> = new Map([
  ['relay', () => RelayProcess.start({ RELAY_WEBSOCKET_LISTEN: ANY })],
  [
    'relay with usage database',
    (programs) => RelayProcess.start({ RELAY_WEBSOCKET_LISTEN: ANY, RELAY_USAGE_DB: databaseIn(programs) }),
  ],
  ['relay with TLS', startTlsRelay],
  [
    'sidecar',
    (programs) =>
      SidecarProcess.start({
        SIDECAR_USAGE_DB: databaseIn(programs),
        SIDECAR_SNAPSHOT_DIR: join(programs.directory, 'rest-snapshots'),
      }),
  ],
  ['reference', startReference],
  ['syncthing-relaysrv', startSyncthingRelay],
]);

/** Memory of programs that have no clients. */
export async function printMemoryAtRest(bench: Bench): Promise<void> {
  const seconds = bench.quick ? QUICK_REST_SECONDS : REST_SECONDS;
  const rounds = Math.min(bench.rounds, bench.quick ? 1 : 3);
  // The first start fills the compile cache.
  await measureAll(bench, 0);
  const uses: ReadonlyMap<string, MemoryUse>[] = [];
  for (let round = 0; round < rounds; round += 1) uses.push(await measureAll(bench, seconds));
  const rows: string[][] = [];
  for (const name of PROGRAMS.keys()) {
    const found = uses.flatMap((round) => round.get(name) ?? []);
    if (found.length === 0) {
      bench.print(`Memory at rest: ${name} is left out, because it is not installed.\n`);
      continue;
    }
    const mib = (value: (use: MemoryUse) => number): string =>
      new Samples(found.map((use) => value(use) / KIB_PER_MIB)).format(1);
    rows.push([
      name,
      mib(({ resident }) => resident),
      mib(({ anonymous }) => anonymous),
      mib(({ resident, anonymous }) => resident - anonymous),
    ]);
  }
  const header = ['program', 'RSS MiB', 'anonymous MiB', 'files MiB'];
  bench.print(
    formatTable(`Memory at rest, ${seconds} s after the start, with child processes`, header, rows),
  );
}

/** Memory of each installed program, so many seconds after the start of all. */
async function measureAll({ programs }: Bench, seconds: number): Promise<ReadonlyMap<string, MemoryUse>> {
  await using resources = new AsyncDisposableStack();
  const running = new Map<string, Resting>();
  for (const [name, start] of PROGRAMS) {
    const program = await start(programs);
    if (program !== null) running.set(name, resources.use(program));
  }
  await sleep(seconds * 1000);
  return new Map([...running].map(([name, { pid }]) => [name, memoryOf(pid)]));
}

function databaseIn({ directory }: BenchPrograms): string {
  return join(directory, 'rest.sqlite');
}

/** Debian's relay of Syncthing, which has the same task. It joins no pool and has no status server. */
async function startSyncthingRelay({ directory }: BenchPrograms): Promise<Resting | null> {
  const strelaysrv = findProgram('strelaysrv');
  if (strelaysrv === null) return null;
  const keys = join(directory, 'syncthing');
  mkdirSync(keys, { recursive: true });
  const listen = `-listen=127.0.0.1:${await freePort()}`;
  const program = new Program([strelaysrv, listen, '-pools=', '-status-srv=', `-keys=${keys}`]);
  try {
    await program.waitForOutput(/ URI: relay:/u);
  } catch (error) {
    await program[Symbol.asyncDispose]();
    throw error;
  }
  return program;
}
