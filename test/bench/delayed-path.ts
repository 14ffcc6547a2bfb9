import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Program, findProgram } from '../support/programs.ts';
import { interleaved } from './bench.ts';
import type { Bench } from './bench.ts';
import { runBulk } from './bulk.ts';
import { startReferenceOn, startRelayOn } from './peers.ts';
import { Samples, formatTable, ratio } from './table.ts';
import { maximumKiB, setTcpBuffers } from './tcp-buffers.ts';
import type { TcpBuffers } from './tcp-buffers.ts';

const STARTS = [startRelayOn, startReferenceOn];

/** Of the path, in each direction. */
const DELAY_MS = 25;

/** Addresses for benchmarks (RFC 2544): peers listen on the first, and clients reach them on the second. */
const DEVICE = { name: 'delay0', address: '198.18.0.1', remote: '198.18.0.2' };

/** Packets that the device may hold until the delay line reads them. */
const QUEUE_LENGTH = 10_000;

/** Of a client, in bytes: not the limit. */
const CLIENT_BUFFERS = 32 * 2 ** 20;

/** Buffers and congestion windows grow for some seconds. */
const WARM_UP_SECONDS = 4;
const QUICK_WARM_UP_SECONDS = 1.5;

const NOTE = `Each client is ${2 * DELAY_MS} ms of round trip away from the peer and has buffers of 32 MiB. The throughput that a buffer allows is inversely
proportional to the round trip.
`;

/** One pair, bytes one way, over a path with a delay. For a network namespace of its own. */
export async function printDelayedThroughput(bench: Bench, settings: readonly TcpBuffers[]): Promise<void> {
  const ip = findProgram('ip');
  if (ip === null || !existsSync('/dev/net/tun')) {
    bench.print('Throughput over a long path is left out: it needs /dev/net/tun and ip (iproute2).\n');
    return;
  }
  // The device ends with the program.
  await using delayLine = new Program([bench.programs.delayLine, DEVICE.name, String(DELAY_MS)]);
  await delayLine.waitForOutput(/^ready$/mu);
  execFileSync(ip, ['address', 'add', DEVICE.address, 'peer', DEVICE.remote, 'dev', DEVICE.name]);
  execFileSync(ip, ['link', 'set', DEVICE.name, 'up', 'txqueuelen', String(QUEUE_LENGTH)]);
  const cases = settings.flatMap((buffers) => STARTS.map((start) => ({ buffers, start })));
  const rounds = Math.min(bench.rounds, bench.quick ? 1 : 3);
  const results = await interleaved(cases, rounds, async ({ buffers, start }) => {
    setTcpBuffers(buffers);
    await using peer = await start(DEVICE.address);
    if (peer === null) return null;
    const report = await runBulk(bench, peer, {
      host: DEVICE.remote,
      buffers: CLIENT_BUFFERS,
      warmUp: bench.quick ? QUICK_WARM_UP_SECONDS : WARM_UP_SECONDS,
    });
    return { name: peer.name, megabytesPerSecond: report.get('bytes') / report.get('seconds') / 1e6 };
  });
  const summaries = results.flatMap(({ benchCase: { buffers }, measured }) => {
    const found = measured.filter((measurement) => measurement !== null);
    const speed = new Samples(found.map(({ megabytesPerSecond }) => megabytesPerSecond));
    return found.slice(0, 1).map(({ name }) => ({ name, buffers, speed }));
  });
  const rows = summaries.map(({ name, buffers, speed }) => [
    maximumKiB(buffers.tcp_rmem),
    maximumKiB(buffers.tcp_wmem),
    name,
    speed.format(1),
    ratio(speed.median, summaries.find((other) => other.name === name)?.speed.median),
  ]);
  const header = ['tcp_rmem KiB', 'tcp_wmem KiB', 'peer', 'MB/s', "of the kernel's settings"];
  bench.print(formatTable(`Throughput of one pair over ${2 * DELAY_MS} ms, bytes one way`, header, rows));
  bench.print(NOTE);
}
