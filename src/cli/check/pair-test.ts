import { randomBytes } from 'node:crypto';
import { REPLIES } from '../../protocol/messages.ts';
import type { Certificate } from './certificate.ts';
import { CheckClient } from './client.ts';
import { TestFailure, replyFailure } from './failure.ts';
import type { Target } from './target.ts';

const OK = Buffer.from(REPLIES.ok);

/** Round trips that are measured, unless this takes longer, in milliseconds. */
const ROUND_TRIPS = 9;
const ROUND_TRIPS_MS = 1000;

/** Bytes of a round trip. */
const PING_BYTES = 16;

/** A transfer stops after this time, in milliseconds. */
const TRANSFER_MS = 2000;

/** Bytes that are sent at a time. */
const CHUNK_BYTES = 65_536;

export interface PairTestOptions {
  /** Time without progress after which a test fails, in milliseconds. */
  readonly timeoutMs: number;
  /** Bytes to transfer; 0: only pair the clients. */
  readonly sizeBytes: number;
  /** Accepts any certificate. */
  readonly insecure: boolean;
}

export interface PairResult {
  /** The certificate of the first target; null without TLS. */
  readonly certificate: Certificate | null;
  /** From one client to the other and back: the median. */
  readonly roundTripMs: number;
  readonly bytes: number;
  readonly bytesPerSecond: number;
}

/**
 * Pairs a client at `from` with a client at `to`, and moves bytes between them. Ends within a few times the
 * timeout, whatever the servers do.
 *
 * @throws TestFailure
 */
export async function testPair(from: Target, to: Target, options: PairTestOptions): Promise<PairResult> {
  const { timeoutMs, sizeBytes, insecure } = options;
  const deadline = new AbortController();
  const { signal } = deadline;
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  const progress = (): void => void timer.refresh();
  const token = randomBytes(32).toString('hex');
  try {
    using first = await CheckClient.connect(from, { signal, insecure });
    const notPaired = new TestFailure('not_paired', from === to ? ONE_NOT_PAIRED : TWO_NOT_PAIRED);
    const firstPaired = pair(first, token, notPaired, signal);
    // It is awaited below.
    firstPaired.catch(() => undefined);
    using second = await CheckClient.connect(to, { signal, insecure });
    await Promise.all([firstPaired, pair(second, token, notPaired, signal)]);
    const { certificate } = first;
    if (sizeBytes === 0) return { certificate, roundTripMs: 0, bytes: 0, bytesPerSecond: 0 };
    const roundTripMs = await measureRoundTrips(first, second, progress);
    const transfer = await measureTransfer(first, second, sizeBytes, { progress, signal });
    return { certificate, roundTripMs, ...transfer };
  } finally {
    clearTimeout(timer);
  }
}

const ONE_NOT_PAIRED =
  'two clients with the same token were not paired; it is not a transit relay, or a load balancer spreads clients over relays that are not one cluster';

const TWO_NOT_PAIRED = 'the two endpoints do not lead to the same relay or cluster';

/** Sends the handshake and waits for `ok`. */
async function pair(
  client: CheckClient,
  token: string,
  notPaired: TestFailure,
  signal: AbortSignal,
): Promise<void> {
  const side = randomBytes(8).toString('hex');
  void client.send(Buffer.from(`please relay ${token} for side ${side}\n`));
  let received = Buffer.alloc(0);
  while (isBeginning(received)) {
    const chunk = await client.read();
    if (chunk === null) break;
    received = Buffer.concat([received, chunk]);
  }
  if (received.subarray(0, OK.length).equals(OK)) {
    client.unread(received.subarray(OK.length));
    return;
  }
  if (signal.aborted && received.length === 0) throw notPaired;
  throw replyFailure(received, token);
}

/** True for an incomplete reply of a relay. */
function isBeginning(received: Buffer): boolean {
  return Object.values(REPLIES).some(
    (reply) => reply.length > received.length && received.equals(reply.subarray(0, received.length)),
  );
}

/** Milliseconds from one client to the other and back: the median of some. */
async function measureRoundTrips(
  first: CheckClient,
  second: CheckClient,
  progress: () => void,
): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + ROUND_TRIPS_MS;
  do {
    const ping = randomBytes(PING_BYTES);
    const started = performance.now();
    void first.send(ping);
    await expect(second, ping);
    void second.send(ping);
    await expect(first, ping);
    times.push(performance.now() - started);
    progress();
  } while (times.length < ROUND_TRIPS && performance.now() < end);
  return times.toSorted((one, other) => one - other)[Math.floor(times.length / 2)] ?? 0;
}

/** Resolves when exactly these bytes have arrived. */
async function expect(client: CheckClient, bytes: Buffer): Promise<void> {
  let received = Buffer.alloc(0);
  while (received.length < bytes.length) {
    const chunk = await client.read();
    if (chunk === null)
      throw interrupted('after the clients were paired, no bytes came from one to the other');
    received = Buffer.concat([received, chunk]);
  }
  if (!received.equals(bytes)) throw corrupted();
}

/** Sends bytes from the first to the second client, until all have arrived or the time is up. */
async function measureTransfer(
  first: CheckClient,
  second: CheckClient,
  sizeBytes: number,
  { progress, signal }: { readonly progress: () => void; readonly signal: AbortSignal },
): Promise<{ readonly bytes: number; readonly bytesPerSecond: number }> {
  const pattern = randomBytes(CHUNK_BYTES);
  const sending = { isOver: false };
  const started = performance.now();
  void sendAll(first, pattern, sizeBytes, sending);
  let bytes = 0;
  let tookMs = 0;
  while (bytes < sizeBytes && tookMs < TRANSFER_MS) {
    const chunk = await second.read();
    if (chunk === null)
      throw interrupted(
        signal.aborted
          ? `the transfer stopped after ${bytes} bytes; the network may drop large packets (MTU)`
          : `the relay closed the connection after ${bytes} bytes; see RELAY_PAIR_BYTES and RELAY_QUOTA`,
      );
    if (bytes + chunk.length > sizeBytes || !matches(chunk, pattern, bytes)) throw corrupted();
    bytes += chunk.length;
    tookMs = performance.now() - started;
    progress();
  }
  sending.isOver = true;
  return { bytes, bytesPerSecond: Math.round((bytes * 1000) / tookMs) };
}

async function sendAll(
  client: CheckClient,
  pattern: Buffer,
  sizeBytes: number,
  sending: { readonly isOver: boolean },
): Promise<void> {
  for (let sent = 0; sent < sizeBytes && !sending.isOver; sent += pattern.length) {
    await client.send(pattern.subarray(0, sizeBytes - sent));
  }
}

/** Whether a chunk of a repeated pattern is at its place. */
function matches(chunk: Buffer, pattern: Buffer, at: number): boolean {
  for (let done = 0; done < chunk.length;) {
    const start = (at + done) % pattern.length;
    const part = chunk.subarray(done, done + pattern.length - start);
    if (!part.equals(pattern.subarray(start, start + part.length))) return false;
    done += part.length;
  }
  return true;
}

function interrupted(message: string): TestFailure {
  return new TestFailure('interrupted', message);
}

function corrupted(): TestFailure {
  return new TestFailure(
    'corrupted',
    'the received bytes are not those that were sent; something in between changes them',
  );
}
