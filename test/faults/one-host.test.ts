import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { nonZero, scrape } from '../support/metrics.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import { MassAttack } from './support/mass-attack.ts';
import { MeasuredRelay } from './support/turns.ts';

/** Connections that the relay accepts; half of them may wait. */
const MAX_CONNECTIONS = 2000;

/** Connections that the host makes. It reconnects within a second when one is closed. */
const ATTACKERS = 3000;

const MIN_ATTACK_SECONDS = 2;

const MIN_NEW_PAIRS = 10;

/** An order of magnitude above what the bystander measures on an idle machine. */
const MAX_STALL_MS = 3000;

/**
 * Attacks that use all connections, and the state of the connections that are evicted. Null: a lower limit
 * applies, so that the attack never uses all connections.
 */
const ATTACKS: Readonly<Record<string, string | null>> = {
  waiters: 'waiting',
  idle: 'handshake',
  'half-upgrades': null,
  lingerers: 'closing',
};

async function expectNewPairs(context: TestContext, name: string, state: string | null): Promise<void> {
  const measured = await MeasuredRelay.startFor(context, { RELAY_MAX_CONNECTIONS: `${MAX_CONNECTIONS}` });
  const { relay } = measured;
  await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
  const idle = await bystander.measureUndisturbed();
  await using attackers = new AsyncDisposableStack();
  attackers.use(await MassAttack.prepare(name, measured, ATTACKERS));
  let evicted: Record<string, number> = {};
  const during = await bystander.measureUntil(async ({ seconds, newPairs }) => {
    const figures = await scrape(`http://127.0.0.1:${relay.port('status')}`);
    evicted = nonZero(figures, 'transit_relay_connections_evicted_total');
    const hasEvicted = state === null || (evicted[`{state="${state}"}`] ?? 0) > 0;
    return seconds >= MIN_ATTACK_SECONDS && newPairs > MIN_NEW_PAIRS && hasEvicted;
  });
  await bystander.finish();
  reportAttack(context, `one host: ${name}`, idle, during, `evicted ${JSON.stringify(evicted)}`);
  assert.ok(during.newPairs > MIN_NEW_PAIRS, `${during.newPairs} new pairs`);
  assert.equal(during.newPairsFailed, 0);
  assert.ok(during.stallMs < MAX_STALL_MS, `the pair stalled for ${during.stallMs} ms`);
  // Clients that got `busy` and stay are evicted as well.
  if (state !== null) assert.ok((evicted[`{state="${state}"}`] ?? 0) > 0, JSON.stringify(evicted));
}

describe('one host that uses all connections does not lock out other networks', () => {
  for (const [name, state] of Object.entries(ATTACKS))
    test(`with ${name}`, (context) => expectNewPairs(context, name, state));
});
