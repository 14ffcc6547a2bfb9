import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { SIDE_A, SIDE_B, handshake, newToken } from '../support/bytes.ts';
import { nonZero, scrape } from '../support/metrics.ts';
import type { TestClient } from '../support/test-client.ts';
import type { OpenRelay } from './open-relay.ts';

export type Transport = TestClient['transport'];

export const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

/** Resolves when one of the relay's figures is as it should be. */
async function figureWhere(
  relay: OpenRelay,
  name: string,
  holds: (figure: number) => boolean,
): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const figure = (await scrape(relay.statusUrl)).get(`transit_relay_${name}`);
    assert.ok(figure !== undefined, `there is no ${name}`);
    if (holds(figure)) return;
    assert.ok(performance.now() < deadline, `${name} stays ${figure}`);
    await sleep(20);
  }
}

export function figureIs(relay: OpenRelay, name: string, expected: number): Promise<void> {
  return figureWhere(relay, name, (figure) => figure === expected);
}

/** Resolves when it is more. */
export function figureExceeds(relay: OpenRelay, name: string, least: number): Promise<void> {
  return figureWhere(relay, name, (figure) => figure > least);
}

/** Those that begin with this and are not 0. */
export async function figuresOf(relay: OpenRelay, name: string): Promise<Readonly<Record<string, number>>> {
  return nonZero(await scrape(relay.statusUrl), `transit_relay_${name}`);
}

/** Two clients that have been told of each other. */
export async function pairOf(
  relay: OpenRelay,
  from: Transport,
  to: Transport,
): Promise<[TestClient, TestClient]> {
  const token = newToken();
  const [a, b] = [await relay.connect(from), await relay.connect(to)];
  await a.send(handshake(token, SIDE_A));
  await b.send(handshake(token, SIDE_B));
  await Promise.all([a.until(3), b.until(3)]);
  return [a, b];
}

/** Resolves when no connection is open. */
export async function nobodyIsLeft(relay: OpenRelay): Promise<void> {
  await figureIs(relay, 'connections_open', 0);
}
