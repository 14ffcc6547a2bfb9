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

/** Where a test client goes, and how. */
export interface ProbeTarget {
  readonly protocol: 'raw' | 'websocket';
  readonly endpoint: BoundEndpoint;
}

/** No client stays for longer, in milliseconds; a relay that is slow still knows its token then. */
const MAX_PROBE_LIFETIME_MS = 30_000;

/** A client of the relay inside the relay: real sockets, and `ws` for WebSocket. */
export class ProbeClient implements Disposable {
  readonly #socket: Socket;
  readonly #stream: Duplex;
  readonly #chunks: AsyncIterator<unknown>;
  /** Resolves when the kernel has the client's first words. */
  readonly #handshakeSent: Promise<void>;

  private constructor(socket: Socket, stream: Duplex, hello: Uint8Array) {
    this.#socket = socket;
    this.#stream = stream;
    this.#chunks = stream[Symbol.asyncIterator]();
    // Whoever waits for something hears of it by its own.
    stream.on('error', () => undefined);
    this.#handshakeSent = new Promise((resolve) => {
      stream.write(hello, () => resolve());
    });
    const stay = setTimeout(() => socket.destroy(), MAX_PROBE_LIFETIME_MS).unref();
    socket.once('close', () => clearTimeout(stay));
  }

  /**
   * Connects and says `hello`, whatever happens meanwhile. Rejects with a sentence that says what is wrong.
   * `stop` ends the client.
   */
  static async connect(target: ProbeTarget, hello: Uint8Array, stop: AbortSignal): Promise<ProbeClient> {
    const { protocol, endpoint } = target;
    const socket = openSocket(endpoint);
    const upgrade = protocol === 'websocket' ? upgradeToWebSocket(socket) : null;
    const client = new ProbeClient(socket, upgrade?.stream ?? socket, hello);
    stop.addEventListener('abort', () => client[Symbol.dispose](), { once: true });
    try {
      const ready = socket instanceof TLSSocket ? 'secureConnect' : 'connect';
      await (upgrade === null ? once(socket, ready, { signal: stop }) : upgrade.opened(stop));
      return client;
    } catch (error) {
      client[Symbol.dispose]();
      throw new Error(`no connection (${reasonOf(error)})`, { cause: error });
    }
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  /** Resolves when the relay has sent `bytes`. Rejects with `otherwise`. */
  async expect(bytes: Buffer, otherwise: string): Promise<void> {
    let received = Buffer.alloc(0);
    while (received.length < bytes.length) {
      const chunk = await this.#next();
      if (chunk === null) throw new Error(otherwise);
      received = Buffer.concat([received, chunk]);
    }
    if (!received.equals(bytes)) throw new Error(otherwise);
  }

  /** Rejects with `otherwise` when the relay closes the connection. */
  async failsOnClose(otherwise: string): Promise<never> {
    while ((await this.#next()) !== null);
    throw new Error(otherwise);
  }

  /** What comes next; null when nothing will. */
  async #next(): Promise<Buffer | null> {
    const next = await this.#chunks.next().catch(() => null);
    if (next === null || next.done === true) return null;
    return Buffer.isBuffer(next.value) ? next.value : null;
  }

  /** Leaves in a way that costs the kernel nothing afterwards. Only for when everything has been read. */
  reset(): void {
    const canReset = this.#socket.remoteAddress !== undefined && !(this.#socket instanceof TLSSocket);
    if (canReset) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    // Whoever goes without a word is a client to the relay, and gets a record. A FIN behind the token does not.
    void this.#handshakeSent.then(() => this.#socket.destroy());
  }
}

function openSocket(endpoint: BoundEndpoint): Socket {
  if (endpoint.kind === 'unix') return connect(endpoint.path);
  const address = { port: endpoint.port, host: reachableHost(endpoint) };
  if (endpoint.tls === null) return connect({ ...address, noDelay: true });
  // It is the relay itself, by an address that its certificate need not know.
  return connectTls({ ...address, rejectUnauthorized: false });
}

function upgradeToWebSocket(socket: Socket): {
  stream: Duplex;
  opened: (stop: AbortSignal) => Promise<unknown>;
} {
  const websocket = new WebSocket('ws://relay/', {
    createConnection: () => socket,
    perMessageDeflate: false,
  });
  return {
    stream: createWebSocketStream(websocket),
    opened: (stop) => once(websocket, 'open', { signal: stop }),
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

/** Time for a whole test, in milliseconds: a healthcheck is given 2 s, and has to start a process in them. */
const PROBE_TIMEOUT_MS = 1200;

/** What each of two clients sends to the other. */
const PAYLOAD_BYTES = 65_536;

/** A result is good for this long, in milliseconds, so that whoever asks faster does not cost more. */
const RESULT_TTL_MS = 500;

/** A token goes on being the relay's own for this long after its test, in milliseconds: its clients may come late. */
const TOKEN_TTL_MS = 60_000;

/** One thing that was tried. */
export interface ProbeResult {
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  /** How long it took, or until it failed. */
  readonly milliseconds: number;
  /** What is wrong, in a few words; null when nothing is. */
  readonly problem: string | null;
}

/** What a hub offers for tests. */
export interface ProbeRegistry {
  registerProbe(token: string, arrived: () => void): void;
  unregisterProbe(token: string): void;
}

/**
 * Connects to the relay's own listeners as clients do. The relay knows these clients by their tokens, keeps
 * other books on them, and counts and records none.
 */
export class HealthProbes {
  readonly #raw: readonly ProbeTarget[];
  readonly #websocket: readonly ProbeTarget[];
  readonly #registry: ProbeRegistry;
  readonly #running = new Map<string, Promise<readonly ProbeResult[]>>();

  /** @param raw, websocket where the relay really listens, with port 0 resolved */
  constructor(raw: readonly BoundEndpoint[], websocket: readonly BoundEndpoint[], register: ProbeRegistry) {
    this.#raw = raw.map((endpoint) => ({ protocol: 'raw', endpoint }));
    this.#websocket = websocket.map((endpoint) => ({ protocol: 'websocket', endpoint }));
    this.#registry = register;
  }

  /** One client comes to each listener, is read and understood. Never rejects. */
  listeners(): Promise<readonly ProbeResult[]> {
    return this.#singleFlight('listeners', () =>
      [...this.#raw, ...this.#websocket].map((target) =>
        runProbe(target, target, this.#probeListener.bind(this)),
      ),
    );
  }

  /**
   * Two clients pair and send each other 64 KiB, which are compared: on each listener, and, where there are
   * both, from the first raw one to the first for WebSocket. Never rejects.
   */
  transfers(): Promise<readonly ProbeResult[]> {
    const pairs = [...this.#raw, ...this.#websocket].map((target) => [target, target] as const);
    const [raw, websocket] = [this.#raw[0], this.#websocket[0]];
    if (raw !== undefined && websocket !== undefined) pairs.push([raw, websocket]);
    return this.#singleFlight('transfers', () =>
      pairs.map(([from, to]) => runProbe(from, to, this.#probeTransfer.bind(this))),
    );
  }

  /** Resolves when no test runs any more. */
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

  async #probeListener(target: ProbeTarget, _same: ProbeTarget, stop: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const token = this.#newToken(resolve);
    using client = await ProbeClient.connect(target, handshake(token), stop);
    await Promise.race([promise, client.failsOnClose('the relay did not take a client in')]);
    client.reset();
  }

  async #probeTransfer(from: ProbeTarget, to: ProbeTarget, stop: AbortSignal): Promise<void> {
    const token = this.#newToken(() => undefined);
    using first = await ProbeClient.connect(from, handshake(token), stop);
    using second = await ProbeClient.connect(to, handshake(token), stop);
    const clients = [first, second];
    await Promise.all(
      clients.map((client) => client.expect(Buffer.from('ok\n'), 'two clients did not pair')),
    );
    const payloads = clients.map((client) => {
      const payload = randomBytes(PAYLOAD_BYTES);
      client.send(payload);
      return payload;
    });
    await Promise.all(
      clients.map((client, index) =>
        client.expect(payloads[1 - index] ?? Buffer.alloc(0), 'bytes did not arrive as they were sent'),
      ),
    );
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
  run: (from: ProbeTarget, to: ProbeTarget, stop: AbortSignal) => Promise<void>,
): Promise<ProbeResult> {
  const started = performance.now();
  const done = new AbortController();
  const late = sleep(PROBE_TIMEOUT_MS, undefined, { signal: done.signal }).then(() => {
    throw new Error(`not done after ${PROBE_TIMEOUT_MS} ms`);
  });
  // Once the trial is done, its deadline is of no interest.
  late.catch(() => undefined);
  let problem: string | null = null;
  try {
    await Promise.race([run(from, to, done.signal), late]);
  } catch (error) {
    problem = error instanceof Error ? error.message : 'it failed';
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

/** The files of a certificate are nobody's business here. */
function targetName({ protocol, endpoint }: ProbeTarget): string {
  if (endpoint.kind === 'unix' || endpoint.tls === null) return `${protocol} ${formatEndpoint(endpoint)}`;
  return `${protocol} ${formatEndpoint({ ...endpoint, tls: null }).replace(/^tcp/u, 'ssl')}`;
}
