import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket, connect as connectTls } from 'node:tls';
import { WebSocket, createWebSocketStream } from 'ws';
import { formatEndpoint, reachableHost } from '../config/endpoint.ts';
import type { BoundEndpoint } from '../config/endpoint.ts';
import { errorCode } from '../process/errors.ts';

/** Listener that a probe connects to. */
interface ProbeTarget {
  readonly protocol: 'raw' | 'websocket';
  readonly endpoint: BoundEndpoint;
}

/** A probe client is closed after this time, in milliseconds. Even a slow relay still knows its token then. */
const MAX_PROBE_LIFETIME_MS = 30_000;

/** A client that connects from the relay to itself: real sockets, and `ws` for WebSocket. */
class ProbeClient implements Disposable {
  readonly #socket: Socket;
  readonly #stream: Duplex;
  readonly #chunks: AsyncIterator<unknown>;
  /** Resolves when the handshake has been written to the kernel. */
  readonly #handshakeSent: Promise<void>;

  private constructor(socket: Socket, stream: Duplex, hello: Uint8Array) {
    this.#socket = socket;
    this.#stream = stream;
    this.#chunks = stream[Symbol.asyncIterator]();
    // Callers notice errors when their read ends.
    stream.on('error', () => undefined);
    this.#handshakeSent = new Promise((resolve) => {
      stream.write(hello, () => resolve());
    });
    const lifetime = setTimeout(() => socket.destroy(), MAX_PROBE_LIFETIME_MS).unref();
    socket.once('close', () => clearTimeout(lifetime));
  }

  /**
   * Connects and sends `hello`, even if `stop` is aborted meanwhile: see the dispose method. Rejects with a
   * message that describes the problem. `stop` closes the client.
   */
  static async connect(target: ProbeTarget, hello: Uint8Array, stop: AbortSignal): Promise<ProbeClient> {
    const { protocol, endpoint } = target;
    const socket = openSocket(endpoint);
    const websocket = protocol === 'websocket' ? upgradeToWebSocket(socket) : null;
    const stream = websocket === null ? socket : createWebSocketStream(websocket);
    const client = new ProbeClient(socket, stream, hello);
    stop.addEventListener('abort', () => client[Symbol.dispose](), { once: true });
    try {
      if (websocket !== null) await once(websocket, 'open', { signal: stop });
      else await once(socket, socket instanceof TLSSocket ? 'secureConnect' : 'connect', { signal: stop });
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw new Error(`no connection (${reasonOf(error)})`, { cause: error });
    }
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  /** Resolves when the relay has sent `bytes`; otherwise rejects with `problem`. */
  async expect(bytes: Buffer, problem: string): Promise<void> {
    let received = Buffer.alloc(0);
    while (received.length < bytes.length) {
      const chunk = await this.#next();
      if (chunk === null) throw new Error(problem);
      received = Buffer.concat([received, chunk]);
    }
    if (!received.equals(bytes)) throw new Error(problem);
  }

  /** Rejects with `problem` when the relay closes the connection. */
  async failsOnClose(problem: string): Promise<never> {
    while ((await this.#next()) !== null);
    throw new Error(problem);
  }

  /** The next chunk; null at the end of the stream. */
  async #next(): Promise<Buffer | null> {
    const next = await this.#chunks.next().catch(() => null);
    if (next === null || next.done === true) return null;
    return Buffer.isBuffer(next.value) ? next.value : null;
  }

  /** Resets the connection, which leaves no state in the kernel. Only when everything has been read. */
  reset(): void {
    const canReset = this.#socket.remoteAddress !== undefined && !(this.#socket instanceof TLSSocket);
    if (canReset) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    // Close after the handshake has been sent: a connection without a token would be recorded as a client.
    void this.#handshakeSent.then(() => this.#socket.destroy());
  }
}

function openSocket(endpoint: BoundEndpoint): Socket {
  if (endpoint.kind === 'unix') return connect(endpoint.path);
  const address = { port: endpoint.port, host: reachableHost(endpoint) };
  // The certificate by ACME may not exist yet. Clients without TLS are accepted in any case.
  if (endpoint.tls === null || endpoint.tls === 'acme') return connect({ ...address, noDelay: true });
  // The peer is this relay. Its certificate need not contain the address used here.
  return connectTls({ ...address, rejectUnauthorized: false });
}

function upgradeToWebSocket(socket: Socket): WebSocket {
  return new WebSocket('ws://relay/', { createConnection: () => socket, perMessageDeflate: false });
}

function reasonOf(error: unknown): string {
  const code = errorCode(error);
  return code === 'unknown' && error instanceof Error ? error.message : code;
}

/** Time limit of a probe, in milliseconds. Container health checks have 2 s, including their process start. */
export const PROBE_TIMEOUT_MS = 1200;

/** Bytes that each of two clients sends to the other. */
const PAYLOAD_BYTES = 65_536;

/** Results are reused for this time, in milliseconds, so that frequent requests cost no more. */
const RESULT_TTL_MS = 500;

/** A probe token stays registered for this time, in milliseconds, because its clients may be accepted late. */
const TOKEN_TTL_MS = 60_000;

/** Result of one probe. */
export interface ProbeResult {
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  /** Time until success or failure. */
  readonly milliseconds: number;
  /** Short description of the problem; null without one. */
  readonly problem: string | null;
}

/** The part of the session manager that probes use. */
interface ProbeRegistry {
  registerProbe(token: string, arrived: () => void): void;
  unregisterProbe(token: string): void;
}

/**
 * Connects to the relay's own listeners as clients do. The relay recognizes these clients by their tokens,
 * keeps separate statistics for them, and neither counts nor records them as clients.
 */
export class HealthProbes {
  readonly #targets: readonly ProbeTarget[];
  readonly #registry: ProbeRegistry;
  readonly #running = new Map<string, Promise<readonly ProbeResult[]>>();

  /** @param raw, websocket bound endpoints, with port 0 resolved */
  constructor(raw: readonly BoundEndpoint[], websocket: readonly BoundEndpoint[], registry: ProbeRegistry) {
    this.#targets = [
      ...raw.map((endpoint) => ({ protocol: 'raw', endpoint }) as const),
      ...websocket.map((endpoint) => ({ protocol: 'websocket', endpoint }) as const),
    ];
    this.#registry = registry;
  }

  /** Sends a handshake to each listener and waits until the relay has parsed it. Never rejects. */
  listeners(): Promise<readonly ProbeResult[]> {
    return this.#singleFlight('listeners', () =>
      this.#targets.map((target) => runProbe(target, target, (stop) => this.#probeListener(target, stop))),
    );
  }

  /**
   * Pairs two clients that send each other 64 KiB and compares the received bytes: on each listener, and from
   * the first raw listener to the first WebSocket listener if there are both. Never rejects.
   */
  transfers(): Promise<readonly ProbeResult[]> {
    const pairs = this.#targets.map((target) => [target, target] as const);
    const raw = this.#targets.find(({ protocol }) => protocol === 'raw');
    const websocket = this.#targets.find(({ protocol }) => protocol === 'websocket');
    if (raw !== undefined && websocket !== undefined) pairs.push([raw, websocket]);
    return this.#singleFlight('transfers', () =>
      pairs.map(([from, to]) => runProbe(from, to, (stop) => this.#probeTransfer(from, to, stop))),
    );
  }

  /** Resolves when no probe is running. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #singleFlight(name: string, start: () => Promise<ProbeResult>[]): Promise<readonly ProbeResult[]> {
    const running = this.#running.get(name);
    if (running !== undefined) return running;
    const started = Promise.all(start());
    this.#running.set(name, started);
    void started.then(() => setTimeout(() => this.#running.delete(name), RESULT_TTL_MS).unref());
    return started;
  }

  async #probeListener(target: ProbeTarget, stop: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const token = this.#newToken(resolve);
    using client = await ProbeClient.connect(target, handshake(token), stop);
    await Promise.race([promise, client.failsOnClose('the relay did not accept a client')]);
    client.reset();
  }

  async #probeTransfer(from: ProbeTarget, to: ProbeTarget, stop: AbortSignal): Promise<void> {
    const token = this.#newToken(() => undefined);
    using first = await ProbeClient.connect(from, handshake(token), stop);
    using second = await ProbeClient.connect(to, handshake(token), stop);
    const clients = [first, second];
    const ok = Buffer.from('ok\n');
    await Promise.all(clients.map((client) => client.expect(ok, 'two clients were not paired')));
    const payloads = [randomBytes(PAYLOAD_BYTES), randomBytes(PAYLOAD_BYTES)] as const;
    first.send(payloads[0]);
    second.send(payloads[1]);
    const problem = 'received bytes differ from sent bytes';
    await Promise.all([first.expect(payloads[1], problem), second.expect(payloads[0], problem)]);
    for (const client of clients) client.reset();
  }

  #newToken(arrived: () => void): string {
    const token = randomBytes(32).toString('hex');
    this.#registry.registerProbe(token, arrived);
    setTimeout(() => this.#registry.unregisterProbe(token), TOKEN_TTL_MS).unref();
    return token;
  }
}

function handshake(token: string): Buffer {
  return Buffer.from(`please relay ${token} for side ${randomBytes(8).toString('hex')}\n`);
}

async function runProbe(
  from: ProbeTarget,
  to: ProbeTarget,
  run: (stop: AbortSignal) => Promise<void>,
): Promise<ProbeResult> {
  const started = performance.now();
  const done = new AbortController();
  const timeout = sleep(PROBE_TIMEOUT_MS, undefined, { signal: done.signal }).then(() => {
    throw new Error(`timed out after ${PROBE_TIMEOUT_MS} ms`);
  });
  // The timeout is aborted when the probe is done.
  timeout.catch(() => undefined);
  let problem: string | null = null;
  try {
    await Promise.race([run(done.signal), timeout]);
  } catch (error) {
    problem = error instanceof Error ? error.message : 'unknown error';
  }
  done.abort();
  return {
    from: targetName(from),
    to: targetName(to),
    ok: problem === null,
    milliseconds: Math.round((performance.now() - started) * 10) / 10,
    problem,
  };
}

/** Name of a target, without the paths of its certificate. */
function targetName({ protocol, endpoint }: ProbeTarget): string {
  if (endpoint.kind === 'unix' || endpoint.tls === null) return `${protocol} ${formatEndpoint(endpoint)}`;
  return `${protocol} ${formatEndpoint({ ...endpoint, tls: null }).replace(/^tcp/u, 'ssl')}`;
}
