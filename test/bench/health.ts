import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { COMPILE_CACHE } from '../support/compile-cache.ts';
import { Program } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { SidecarProcess } from '../support/sidecar-process.ts';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { cpuMilliseconds } from './process-cpu.ts';
import { Samples, formatTable } from './table.ts';

const REPOSITORY = join(import.meta.dirname, '..', '..');
const REPEAT = join(import.meta.dirname, 'repeat.sh');

const CHECKS = 10;
const QUICK_CHECKS = 3;

/** More than the 500 ms for which the relay reuses the result of a probe. Containers are checked less often. */
const PAUSE_SECONDS = 0.6;

/** Of all checks of a round, on a machine with busy processors. */
const TIMEOUT_MS = 120_000;

/** The least that bash can do: a request, and a look at the response. */
const PLAIN_REQUEST = `exec 3<>/dev/tcp/127.0.0.1/$0 || exit
printf 'GET %s HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n' "$1" >&3
IFS= read -r -d '' -t 4 answer <&3
[[ $answer == *'"ok":true'* ]]`;

const NOTE = `CPU time of a check includes its child processes. The command \`true\` does nothing; in its rows, the service does only its
background work. The relay tests each of its listeners with a connection in every check.
`;

interface Service {
  readonly name: 'relay' | 'sidecar';
  readonly pid: number;
  readonly port: number;
  readonly path: string;
}

interface Measurement {
  readonly milliseconds: readonly number[];
  readonly cpuMilliseconds: number;
  readonly serviceCpuMilliseconds: number;
}

/** The cost of one health check of a container, on an idle machine and on one with busy processors. */
export async function health(bench: Bench): Promise<void> {
  const databasePath = join(bench.programs.directory, 'health.sqlite');
  await using relay = await RelayProcess.start({
    RELAY_WEBSOCKET_LISTEN: 'tcp:0:interface=127.0.0.1',
    RELAY_USAGE_DB: databasePath,
  });
  await using sidecar = await SidecarProcess.start({
    SIDECAR_USAGE_DB: databasePath,
    SIDECAR_SNAPSHOT_DIR: join(bench.programs.directory, 'health-snapshots'),
  });
  const services: readonly Service[] = [
    { name: 'relay', pid: relay.pid, port: relay.port('status'), path: '/health/relay' },
    { name: 'sidecar', pid: sidecar.pid, port: Number(new URL(sidecar.url).port), path: '/healthz' },
  ];
  const environment = {
    PATH: process.env['PATH'],
    RELAY_STATUS_LISTEN: `tcp:${relay.port('status')}:interface=127.0.0.1`,
    SIDECAR_USAGE_DB: databasePath,
    SIDECAR_LISTEN: `tcp:${Number(new URL(sidecar.url).port)}:interface=127.0.0.1`,
    ...COMPILE_CACHE,
  };
  const cases = services.flatMap((service) =>
    commandsFor(service).flatMap((check) => [false, true].map((busy) => ({ service, check, busy }))),
  );
  for (const { check } of cases) await runOnce(check.command, environment);
  const results = await interleaved(cases, bench.rounds, ({ service, check, busy }) =>
    measure(bench, service, check.command, environment, busy),
  );
  const rows = results.map(({ benchCase: { service, check, busy }, measured }) => [
    service.name,
    check.name,
    busy ? 'busy' : 'idle',
    new Samples(measured.map((round) => round.cpuMilliseconds)).format(1),
    new Samples(measured.flatMap(({ milliseconds }) => milliseconds)).format(1),
    new Samples(measured.map((round) => round.serviceCpuMilliseconds)).format(1),
  ]);
  const header = ['service', 'check', 'processors', 'CPU ms', 'ms', 'CPU ms of the service'];
  bench.print(formatTable('One health check', header, rows));
  bench.print(NOTE);
}

function commandsFor({ name, port, path }: Service): readonly { name: string; command: readonly string[] }[] {
  return [
    { name: 'healthcheck.sh', command: [join(REPOSITORY, 'deploy/image/healthcheck.sh'), name] },
    {
      name: 'healthcheck.ts',
      command: [process.execPath, join(REPOSITORY, 'src/healthcheck.ts'), name],
    },
    { name: 'bash, /dev/tcp', command: ['bash', '-c', PLAIN_REQUEST, String(port), path] },
    { name: 'true', command: ['/bin/true'] },
  ];
}

async function measure(
  bench: Bench,
  service: Service,
  command: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  busy: boolean,
): Promise<Measurement> {
  const count = bench.quick ? QUICK_CHECKS : CHECKS;
  await using resources = new AsyncDisposableStack();
  if (busy) for (let core = 0; core < availableParallelism(); core += 1) resources.use(endlessLoop());
  const cpuBefore = cpuMilliseconds(service.pid);
  const checks = resources.use(
    new Program([REPEAT, String(count), String(PAUSE_SECONDS), ...command], { cwd: REPOSITORY, env }),
  );
  await checks.succeeds(TIMEOUT_MS);
  const lines = checks.stdout.trim().split('\n');
  const [user = Number.NaN, system = Number.NaN] = (lines.pop() ?? '').split(' ').map(Number);
  return {
    milliseconds: lines.map((microseconds) => Number(microseconds) / 1000),
    cpuMilliseconds: ((user + system) * 1000) / count,
    serviceCpuMilliseconds: (cpuMilliseconds(service.pid) - cpuBefore) / count,
  };
}

async function runOnce(
  command: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  await using check = new Program(command, { cwd: REPOSITORY, env });
  await check.succeeds(TIMEOUT_MS);
}

function endlessLoop(): Program {
  return new Program(['sh', '-c', 'while :; do :; done']);
}
