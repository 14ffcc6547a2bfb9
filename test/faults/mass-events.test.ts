import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RelayProcess } from '../support/relay-process.ts';
import { Bystander, reportAttack } from './support/bystander.ts';
import { MassAttack } from './support/mass-attack.ts';
import { MeasuredRelay } from './support/turns.ts';

/** Maximum CPU time of one turn of the event loop, in milliseconds. */
const MAX_TURN_MS = 100;

/** An order of magnitude above what the bystander measures on an idle machine. */
const MAX_STALL_MS = 3000;

const IDLE_MS = 1000;

const ATTACK_MS = 3000;

interface MassEvent {
  /** Name in `mass-attacker.ts`. */
  readonly attack: string;
  readonly count: number;
  readonly settings?: Readonly<Record<string, string>>;
  /** Default: the attacker starts. */
  readonly trigger?: (attack: MassAttack, relay: RelayProcess) => void;
  readonly rejectsNewPairs?: boolean;
  /** Default: `MAX_TURN_MS`. */
  readonly maxTurnMs?: number;
}

/** One row per event. In a relay that handles the whole event in one turn, the turn takes 120 ms to 1 s. */
const EVENTS: Readonly<Record<string, MassEvent>> = {
  '300 WebSockets flood pings': { attack: 'pings', count: 300 },
  '300 WebSockets flood empty messages before the handshake': { attack: 'empty-frames', count: 300 },
  '600 pairs send a message in fragments of one byte': { attack: 'fragments', count: 600 },
  '9,000 pairs close at once': { attack: 'pairs', count: 9000, trigger: (attack) => attack.kill() },
  '9,900 waiting clients close at once': {
    attack: 'waiters',
    count: 9900,
    trigger: (attack) => attack.kill(),
  },
  '9,900 clients wait for one token, and a partner connects': {
    attack: 'one-token',
    count: 9900,
    maxTurnMs: 40,
  },
  'the relay stops, with 9,900 waiting clients': {
    attack: 'waiters',
    count: 9900,
    settings: { RELAY_DRAIN_DELAY: '0s' },
    trigger: (_attack, relay) => relay.kill('SIGTERM'),
    rejectsNewPairs: true,
  },
};

async function expectShortTurns(
  context: TestContext,
  name: string,
  {
    attack: attackName,
    count,
    settings = {},
    trigger,
    rejectsNewPairs = false,
    maxTurnMs = MAX_TURN_MS,
  }: MassEvent,
): Promise<void> {
  const measured = await MeasuredRelay.startFor(context, settings);
  await using bystander = await Bystander.start({
    port: measured.relay.port('raw'),
    pid: measured.relay.pid,
  });
  const idle = await bystander.measure(IDLE_MS);
  await using attack = await MassAttack.prepare(attackName, measured, count);
  await measured.longestTurn();
  const during = await bystander.measureWhile(async () => {
    if (trigger === undefined) await attack.begin();
    else trigger(attack, measured.relay);
    await sleep(ATTACK_MS);
  });
  const turn = await measured.longestTurn();
  await bystander.finish();
  const turnText = `turn ms ${turn.cpuMs.toFixed(0)} (cpu), ${turn.wallMs.toFixed(0)} (wall)`;
  reportAttack(context, name, idle, during, turnText);
  if (!rejectsNewPairs) assert.equal(during.newPairsFailed, 0);
  assert.ok(turn.cpuMs < maxTurnMs, `the longest turn took ${turn.cpuMs} ms`);
  assert.ok(during.stallMs < MAX_STALL_MS, `the pair stalled for ${during.stallMs} ms`);
}

describe('every turn of the event loop is short when', () => {
  for (const [name, event] of Object.entries(EVENTS))
    test(name, (context) => expectShortTurns(context, name, event));
});
