import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Transport } from '../../src/net/peer.ts';
import type { Token } from '../../src/protocol/wire.ts';
import { parseHandshake } from '../../src/protocol/handshake.ts';
import { SIDE_A, handshake, newToken } from './bytes.ts';
import { HouseGroup } from './house-group.ts';
import type { HouseOptions } from './house.ts';
import { until } from './scratch.ts';
import type { Close, TestClient } from './test-client.ts';

export const TRANSPORTS: readonly Transport[] = ['tcp', 'unix', 'websocket'];

export interface SceneOptions extends HouseOptions {
  readonly relays?: number;
  /** What one relay has besides, by its place. */
  readonly only?: Readonly<Record<number, HouseOptions>>;
}

/** What is to be left of a test when its clients have gone: nothing. */
export function scene(
  name: string,
  play: (group: HouseGroup) => Promise<void>,
  { relays = 2, only = {}, ...options }: SceneOptions = {},
): void {
  test(name, { timeout: 60_000 }, async (context) => {
    const group = await HouseGroup.open(relays, options, only);
    context.after(() => group.close());
    await play(group);
    await group.deserted();
  });
}

/** A client, by TCP unless told otherwise, that comes to one relay of a group and says `line` there. */
export async function come(
  group: HouseGroup,
  relay: number,
  line: string,
  transport: Transport = 'tcp',
): Promise<TestClient> {
  const client = await group.member(relay).house.connect(transport);
  await client.send(line);
  return client;
}

/** Resolves when so many wait at a relay, each of them in its rendezvous. */
export function waitingAt(group: HouseGroup, relay: number, count: number): Promise<void> {
  return until(() => group.member(relay).house.hub.clients.rendezvous.waitingClients === count);
}

/** A token that somebody with side A waits for, at a relay that owns it. */
export async function awaited(
  group: HouseGroup,
  relay = 0,
  transport: Transport = 'tcp',
): Promise<{ token: string; waiter: TestClient }> {
  const token = newToken();
  const waiter = await come(group, relay, handshake(token, SIDE_A), transport);
  await until(() => ownerOf(group, token) === relay);
  return { token, waiter };
}

/** Which relay owns a token; -1: none. */
export function ownerOf(group: HouseGroup, token: string): number {
  const id = group.owners.ownerOf(tokenOf(token))?.id;
  return group.members.findIndex(({ owner }) => owner.id === id);
}

/** What a client's line makes of a token. */
export function tokenOf(text: string): Token {
  const line = parseHandshake(Buffer.from(handshake(text)));
  if (line.kind !== 'relay') throw new Error('no token');
  return line.token;
}

export function ended(transport: Transport, code = 1000): Close {
  return { reset: false, code: transport === 'websocket' ? code : null };
}

/** The client hears one thing and is closed. */
export async function hears(client: TestClient, word: string, code = 1000): Promise<void> {
  assert.deepEqual(await client.closed, ended(client.transport, code));
  assert.equal(client.received.toString(), word);
}

/** Both hear `ok`, and each what the other says. */
export async function talk(one: TestClient, other: TestClient): Promise<void> {
  assert.equal((await one.until(3)).toString(), 'ok\n');
  assert.equal((await other.until(3)).toString(), 'ok\n');
  await one.send('from one');
  await other.send('from the other');
  assert.equal((await one.until(17)).toString(), 'ok\nfrom the other');
  assert.equal((await other.until(11)).toString(), 'ok\nfrom one');
}

/** The moods and transports that a relay has recorded. */
export function records(group: HouseGroup, relay: number): string[] {
  const { endings } = group.member(relay).house;
  return endings.map(({ mood, transports }) => [mood, ...transports.toSorted()].join(' ')).toSorted();
}

export async function recorded(group: HouseGroup, relay: number, expected: readonly string[]): Promise<void> {
  await group.member(relay).house.recorded(expected.length);
  assert.deepEqual(records(group, relay), expected);
}

/** The record of a client's pair with one that came over a link. */
export function happy(transport: Transport): string {
  return ['happy', ...[transport, 'link'].toSorted()].join(' ');
}
