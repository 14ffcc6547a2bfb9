import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BoundEndpoint } from '../net/endpoint.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { SelfTestClient } from './self-test-client.ts';
import type { SelfTestTarget } from './self-test-client.ts';

/** Time for a whole test, in milliseconds: a healthcheck is given 2 s, and has to start a process in them. */
const DEADLINE_MS = 1200;

/** What each of two clients sends to the other. */
const PAYLOAD_BYTES = 65_536;

/** A result is good for this long, in milliseconds, so that whoever asks faster does not cost more. */
const KEEP_MS = 500;

/** A token goes on being the relay's own for this long after its test, in milliseconds: its clients may come late. */
const FORGET_MS = 60_000;

/** One thing that was tried. */
export interface Trial {
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  /** How long it took, or until it failed. */
  readonly milliseconds: number;
  /** What is wrong, in a few words; null when nothing is. */
  readonly problem: string | null;
}

/** What a hub offers for tests. */
export interface TesterRegister {
  expectTester(token: string, arrived: () => void): void;
  forgetTester(token: string): void;
}

/**
 * Connects to the relay's own listeners as clients do. The relay knows these clients by their tokens, keeps
 * other books on them, and counts and records none.
 */
export class SelfTest {
  readonly #raw: readonly SelfTestTarget[];
  readonly #websocket: readonly SelfTestTarget[];
  readonly #register: TesterRegister;
  readonly #running = new Map<string, Promise<readonly Trial[]>>();

  /** @param raw, websocket where the relay really listens, with port 0 resolved */
  constructor(raw: readonly BoundEndpoint[], websocket: readonly BoundEndpoint[], register: TesterRegister) {
    this.#raw = raw.map((endpoint) => ({ protocol: 'raw', endpoint }));
    this.#websocket = websocket.map((endpoint) => ({ protocol: 'websocket', endpoint }));
    this.#register = register;
  }

  /** One client comes to each listener, is read and understood. Never rejects. */
  listeners(): Promise<readonly Trial[]> {
    return this.#shared('listeners', () =>
      [...this.#raw, ...this.#websocket].map((target) => trial(target, target, this.#arrive.bind(this))),
    );
  }

  /**
   * Two clients pair and send each other 64 KiB, which are compared: on each listener, and, where there are
   * both, from the first raw one to the first for WebSocket. Never rejects.
   */
  transfers(): Promise<readonly Trial[]> {
    const pairs = [...this.#raw, ...this.#websocket].map((target) => [target, target] as const);
    const [raw, websocket] = [this.#raw[0], this.#websocket[0]];
    if (raw !== undefined && websocket !== undefined) pairs.push([raw, websocket]);
    return this.#shared('transfers', () =>
      pairs.map(([from, to]) => trial(from, to, this.#transfer.bind(this))),
    );
  }

  /** Resolves when no test runs any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #shared(name: string, start: () => Promise<Trial>[]): Promise<readonly Trial[]> {
    const running = this.#running.get(name);
    if (running !== undefined) return running;
    const started = Promise.all(start());
    this.#running.set(name, started);
    void started.then(() => setTimeout(() => this.#running.delete(name), KEEP_MS).unref());
    return started;
  }

  async #arrive(target: SelfTestTarget, _same: SelfTestTarget, stop: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const token = this.#newToken(resolve);
    using client = await SelfTestClient.connect(target, handshake(token), stop);
    await Promise.race([promise, client.fails('the relay did not take a client in')]);
    client.reset();
  }

  async #transfer(from: SelfTestTarget, to: SelfTestTarget, stop: AbortSignal): Promise<void> {
    const token = this.#newToken(() => undefined);
    using first = await SelfTestClient.connect(from, handshake(token), stop);
    using second = await SelfTestClient.connect(to, handshake(token), stop);
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
    this.#register.expectTester(token, arrived);
    setTimeout(() => this.#register.forgetTester(token), FORGET_MS).unref();
    return token;
  }
}

function handshake(token: string): Buffer {
  return Buffer.from(`please relay ${token} for side ${randomBytes(8).toString('hex')}\n`);
}

async function trial(
  from: SelfTestTarget,
  to: SelfTestTarget,
  run: (from: SelfTestTarget, to: SelfTestTarget, stop: AbortSignal) => Promise<void>,
): Promise<Trial> {
  const started = performance.now();
  const done = new AbortController();
  const late = sleep(DEADLINE_MS, undefined, { signal: done.signal }).then(() => {
    throw new Error(`not done after ${DEADLINE_MS} ms`);
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
    from: nameOf(from),
    to: nameOf(to),
    ok: problem === null,
    milliseconds: Math.round((performance.now() - started) * 10) / 10,
    problem,
  };
}

/** The files of a certificate are nobody's business here. */
function nameOf({ protocol, endpoint }: SelfTestTarget): string {
  if (endpoint.kind === 'unix' || endpoint.tls === null) return `${protocol} ${formatEndpoint(endpoint)}`;
  return `${protocol} ${formatEndpoint({ ...endpoint, tls: null }).replace(/^tcp/u, 'ssl')}`;
}
