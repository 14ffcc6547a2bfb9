import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { TransferBystander, reportFault } from './transfer-bystander.ts';
import { untilIdle, vitalsReturn } from '../../support/vitals.ts';
import type { MonitoredRelay } from './monitored-relay.ts';

/** Duration of the measurement before the fault, in milliseconds. */
const UNDISTURBED_MS = 300;

/** Memory that the allocators below V8 may keep for reuse, in MiB. */
const RESIDENT_MARGIN_MIB = 96;

/**
 * Maximum memory during a fault, in MiB: 15,000 connections at 3 KiB each, garbage, and the 64 MiB buffer
 * budget for slow receivers.
 */
const MAX_GROWTH_MIB = 256;

/**
 * Runs `action` on a relay while a bystander's transfers run and the status port answers. Afterwards the
 * relay must have released every resource and be idle. Resolves with the number of the bystander's records.
 */
export async function checkRecovery(
  context: TestContext,
  monitored: MonitoredRelay,
  fault: string,
  action: () => Promise<unknown>,
  maxGrowthMiB = MAX_GROWTH_MIB,
): Promise<number> {
  const resourceUsage = await monitored.usageWhenIdle();
  const vitalsBefore = { ...monitored.vitals(), fdCount: resourceUsage.fdCount };
  await using bystander = await TransferBystander.start(monitored.rawPort);
  const before = await bystander.measure(UNDISTURBED_MS);
  const during = await bystander.measureWhile(async () => {
    await action();
    await monitored.status();
  });
  const transfers = await bystander.finish();
  const grownMiB = peakMiB(monitored.relay.pid) - vitalsBefore.residentMiB;
  context.diagnostic(`the relay grew by at most ${grownMiB.toFixed(0)} MiB`);
  assert.ok(grownMiB < maxGrowthMiB, `more than ${maxGrowthMiB} MiB`);
  await monitored.untilReleased(resourceUsage);
  const vitalsAfter = await vitalsReturn(monitored.relay.pid, vitalsBefore, RESIDENT_MARGIN_MIB);
  await untilIdle(monitored.relay.pid);
  reportFault(context, fault, { before, during, vitalsBefore, vitalsAfter });
  return transfers.length;
}

/** Peak resident memory of a process, in MiB. */
function peakMiB(pid: number): number {
  const found = /^VmHWM:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) / 1024;
}
