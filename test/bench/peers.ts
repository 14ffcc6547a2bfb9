import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../support/listening.ts';
import { Program, findProgram } from '../support/programs.ts';
import { RelayProcess } from '../support/relay-process.ts';
import { PINNED } from './cores.ts';
import type { BenchPrograms } from './workshop.ts';

const LOOPBACK = '127.0.0.1';

const START_TIMEOUT_MS = 20_000;

/** Enough for a thousand pairs. */
const HAPROXY_CONNECTIONS = 4000;

const KIB = 1024;

const NODE_PIPE = join(import.meta.dirname, 'node-tls-pipe.ts');

/** A program that forwards bytes from one connection to another. */
export interface Peer extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  readonly tcpPort: number;
  readonly websocketPort: number | null;
  readonly tlsPort: number | null;
  /** The port it forwards everything to; null for a relay, which pairs its clients. */
  readonly sinkPort: number | null;
}

/** Starts a peer; null if it is not installed. */
export type StartPeer = (programs: BenchPrograms) => Promise<Peer | null>;

/** Our relay. */
export function startRelay(): Promise<Peer> {
  return startRelayOn(LOOPBACK);
}

/** Our relay, listening on another address of this machine. */
export async function startRelayOn(address: string): Promise<Peer> {
  const endpoint = `tcp:0:interface=${address}`;
  const relay = await RelayProcess.start(
    {
      RELAY_MAX_WAITING: '',
      RELAY_LISTEN: endpoint,
      RELAY_WEBSOCKET_LISTEN: endpoint,
      RELAY_LOG_LEVEL: 'info',
    },
    PINNED.peer,
  );
  return {
    name: 'relay',
    pid: relay.pid,
    tcpPort: relay.port('raw'),
    websocketPort: relay.port('websocket'),
    tlsPort: null,
    sinkPort: null,
    [Symbol.asyncDispose]: () => relay.stop(),
  };
}

/** Our relay with one port for TCP and WebSocket, with and without TLS. */
export async function startTlsRelay(programs: BenchPrograms): Promise<Peer> {
  const { keyPath, certificatePath } = programs.certificate;
  const relay = await RelayProcess.start(
    {
      RELAY_MAX_WAITING: '',
      RELAY_LISTEN: `ssl:0:privateKey=${keyPath}:certKey=${certificatePath}:interface=127.0.0.1`,
      RELAY_LOG_LEVEL: 'info',
    },
    PINNED.peer,
  );
  const port = relay.port('raw');
  return {
    name: 'relay',
    pid: relay.pid,
    tcpPort: port,
    websocketPort: port,
    tlsPort: port,
    sinkPort: null,
    [Symbol.asyncDispose]: () => relay.stop(),
  };
}

/** A minimal relay in Node, which pipes two sockets into each other. */
export function startNodePipe(programs: BenchPrograms): Promise<Peer> {
  return startedWithTls('node pipe', [process.execPath, NODE_PIPE], programs);
}

/** A loop over OpenSSL in C, as the limit of one core. */
export async function startOpenssl(programs: BenchPrograms): Promise<Peer> {
  if (programs.opensslForwarder === null) throw new Error('compiled without OpenSSL');
  return startedWithTls('c-openssl', [programs.opensslForwarder], programs);
}

async function startedWithTls(
  name: string,
  command: readonly string[],
  programs: BenchPrograms,
): Promise<Peer> {
  const { keyPath, certificatePath } = programs.certificate;
  const port = await freePort();
  const tlsPort = await freePort();
  const args = [String(port), String(tlsPort), keyPath, certificatePath];
  return started(name, [...command, ...args], port, null, { tlsPort });
}

/** Debian's magic-wormhole-transit-relay with its default settings. */
export function startReference(): Promise<Peer | null> {
  return startReferenceOn(LOOPBACK);
}

/** The same, listening on another address of this machine. */
export async function startReferenceOn(address: string): Promise<Peer | null> {
  const twistd = findProgram('twistd3');
  if (twistd === null) return null;
  const port = await freePort();
  const endpoint = `--port=tcp:${port}:interface=${address}`;
  const command = [twistd, '-n', '--pidfile=', 'transitrelay', endpoint];
  return started('reference', command, port, null, { address });
}

/** HAProxy as a TCP proxy that does not inspect the bytes. */
export async function startHaproxy(programs: BenchPrograms): Promise<Peer | null> {
  const haproxy = findProgram('haproxy');
  if (haproxy === null) return null;
  const port = await freePort();
  const sinkPort = await freePort();
  const path = join(programs.directory, `haproxy-${port}.cfg`);
  writeFileSync(
    path,
    `global
  nbthread 1
  maxconn ${HAPROXY_CONNECTIONS}
  maxpipes ${HAPROXY_CONNECTIONS}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option splice-request
  option splice-response
listen forward
  bind 127.0.0.1:${port}
  server sink 127.0.0.1:${sinkPort}
`,
  );
  return started('haproxy', [haproxy, '-db', '-f', path], port, sinkPort);
}

/** A loop in C, as the limit of one core. */
export function startEpoll(bufferBytes: number): StartPeer {
  return async (programs) => {
    const port = await freePort();
    const sinkPort = await freePort();
    const args = [port, sinkPort, bufferBytes].map(String);
    const name = `c-epoll ${bufferBytes / KIB}K`;
    return started(name, [programs.epollForwarder, ...args], port, sinkPort);
  };
}

/** A loop in C that pairs clients, as the limit of one core. It forwards no bytes. */
export async function startEpollRelay(programs: BenchPrograms): Promise<Peer> {
  const port = await freePort();
  return started('c-relay', [programs.epollRelay, String(port)], port, null);
}

/** Starts the installed ones. They stop together. */
export async function startAll(programs: BenchPrograms, starts: readonly StartPeer[]): Promise<Peers> {
  const peers = new Peers();
  try {
    for (const start of starts) {
      const peer = await start(programs);
      if (peer !== null) peers.add(peer);
    }
  } catch (error) {
    await peers[Symbol.asyncDispose]();
    throw error;
  }
  return peers;
}

export class Peers implements AsyncDisposable {
  readonly all: Peer[] = [];
  readonly #stack = new AsyncDisposableStack();

  add(peer: Peer): void {
    this.all.push(this.#stack.use(peer));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

async function started(
  name: string,
  command: readonly string[],
  tcpPort: number,
  sinkPort: number | null,
  { tlsPort = null, address = LOOPBACK }: { tlsPort?: number | null; address?: string } = {},
): Promise<Peer> {
  const program = new Program([...PINNED.peer, ...command]);
  try {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await accepts(address, tcpPort))) {
      if (performance.now() > deadline) throw new Error(`${name} does not listen: ${program.stderr}`);
      await sleep(20);
    }
  } catch (error) {
    await program[Symbol.asyncDispose]();
    throw error;
  }
  return {
    name,
    pid: program.pid,
    tcpPort,
    websocketPort: null,
    tlsPort,
    sinkPort,
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}

function accepts(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, address);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
