import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { RelayProcess } from '../../support/relay-process.ts';
import { Bystander, reportAttack } from './bystander.ts';

/** Duration of the measurement before the attack, in milliseconds. */
const IDLE_MS = 500;

/**
 * The longest round trip that load on the machine explains, in milliseconds. It is below 50 on an idle
 * machine.
 */
const MAX_STALL_MS = 5000;

/**
 * Runs `attack` on a machine where a relay has a running pair and new pairs, and reports their measurements.
 * Every byte is compared.
 */
export async function withBystander(
  context: TestContext,
  name: string,
  attack: (relay: RelayProcess) => Promise<unknown>,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  await using relay = await RelayProcess.start(settings);
  await using bystander = await Bystander.start({ port: relay.port('raw'), pid: relay.pid });
  const idle = await bystander.measure(IDLE_MS);
  const during = await bystander.measureWhile(() => attack(relay));
  reportAttack(context, name, idle, during);
  assert.ok(during.stallMs < MAX_STALL_MS, `the pair stalled for ${during.stallMs} ms`);
  assert.equal(during.newPairsFailed, 0);
  assert.ok((await bystander.finish()) > 0);
  await relay.stop();
}
