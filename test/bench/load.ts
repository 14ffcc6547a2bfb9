import { Program } from '../support/programs.ts';
import type { Peer } from './peers.ts';
import { PINNED } from './cores.ts';
import type { BenchPrograms } from './workshop.ts';

/** `tls` and `wss` are `tcp` and `websocket` inside TLS. */
export type Transport = 'tcp' | 'websocket' | 'tls' | 'wss';

export type Mode = 'bulk' | 'stall' | 'wait' | 'cycles' | 'burst' | 'latency';

/** Options of the generator besides its target; the keys are those of `struct options` in load/main.c. */
export interface LoadOptions {
  readonly from?: Transport;
  readonly to?: Transport;
  readonly pairs?: number;
  /** Port of second clients, if it is not the peer's. */
  readonly otherPort?: number;
  /** Address of the peer, if it is not loopback. */
  readonly host?: string;
  /** Size of the send and receive buffers of each client in bytes, if the kernel does not choose it. */
  readonly buffers?: number;
  /** In the mode `cycles`, comma-separated ports; each client uses a random one. */
  readonly ports?: string;
  /** Comma-separated processes whose CPU time is measured, if it is not the peer's. */
  readonly pids?: string;
  /** Bytes flow both ways. */
  readonly both?: boolean;
  readonly pingPong?: boolean;
  /** OpenSSL name of the only suite that TLS clients offer. */
  readonly suite?: string;
  /** Seconds of warm-up. */
  readonly warmUp?: number;
  readonly seconds?: number;
}

/** Much longer than any scenario; a hanging generator ends with a reason. */
const TIMEOUT_MS = 120_000;

const REPORT = /^\{.*\}\n/mu;

/** Starts the generator against a peer. It also measures the peer's CPU time. */
export function startLoad(programs: BenchPrograms, mode: Mode, peer: Peer, options: LoadOptions): Program {
  const { from = 'tcp', to = 'tcp', both = false, pingPong = false, ...others } = options;
  const settings = {
    port: portOf(peer, from),
    otherPort: portOf(peer, to),
    sink: peer.sinkPort ?? 0,
    pids: peer.pid,
    from,
    to,
    both: both ? 1 : 0,
    pingPong: pingPong ? 1 : 0,
    ...others,
  };
  const args = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return new Program([...PINNED.load, programs.load, mode, ...args]);
}

/** Runs the generator to its end, and returns its measurements. */
export async function runLoad(
  programs: BenchPrograms,
  mode: Mode,
  peer: Peer,
  options: LoadOptions,
): Promise<Report> {
  await using program = startLoad(programs, mode, peer, options);
  const report = await nextReport(program);
  await program.succeeds(TIMEOUT_MS);
  return report;
}

/** The next measurement of the generator. */
export async function nextReport(program: Program): Promise<Report> {
  const [line] = await program.waitForOutput(REPORT, TIMEOUT_MS);
  return new Report(line);
}

/** Numbers by name. */
export class Report {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(json: string) {
    const parsed: unknown = JSON.parse(json);
    this.#values = new Map(typeof parsed === 'object' && parsed !== null ? Object.entries(parsed) : []);
  }

  get(name: string): number {
    const value = this.#values.get(name);
    if (typeof value !== 'number') throw new Error(`the generator does not report ${name}`);
    return value;
  }
}

function portOf(peer: Peer, transport: Transport): number {
  const { tcpPort, websocketPort, tlsPort } = peer;
  const port = { tcp: tcpPort, websocket: websocketPort, tls: tlsPort, wss: tlsPort }[transport];
  if (port === null) throw new Error(`${peer.name} has no port for ${transport}`);
  return port;
}
