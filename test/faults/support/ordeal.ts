import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { Bystander, reportFault } from '../../support/bystander.ts';
import { coresUsed, vitalsReturn } from '../../support/vitals.ts';
import type { HeldRelay } from './held-relay.ts';

/** For how long the bystander is measured when nothing else happens, in milliseconds. */
const UNDISTURBED_MS = 1000;

/** What the allocators below V8 may keep for next time, in MiB. */
const RESIDENT_MARGIN_MIB = 96;

/**
 * What a fault may cost while it lasts, in MiB: 15,000 connections at 3 KiB each, garbage, and the 64 MiB that may be held for
 * receivers that do not keep up.
 */
const MAX_GROWTH_MIB = 256;

/** A relay that nobody uses is busy for less of a core than this. One that spins takes all of it. */
const IDLE_CORES = 0.2;

const IDLE_MS = 1000;

/**
 * Does to a relay what `fault` says, while a bystander's transfers go on and the status port answers. Afterwards the relay
 * must have let go of everything, and must not be busy. Resolves with the number of the bystander's records.
 */
export async function ordeal(
  context: TestContext,
  held: HeldRelay,
  fault: string,
  action: () => Promise<unknown>,
  maxGrowthMiB = MAX_GROWTH_MIB,
): Promise<number> {
  const holdings = await held.whenAlone();
  const vitalsBefore = { ...held.vitals(), openFiles: holdings.openFiles };
  await using bystander = await Bystander.start(held.rawPort);
  const before = await bystander.measure(UNDISTURBED_MS);
  const during = await bystander.measureWhile(async () => {
    await action();
    await held.status();
  });
  const transfers = await bystander.finish();
  const grownMiB = peakMiB(held.relay.pid) - vitalsBefore.residentMiB;
  context.diagnostic(`the relay grew by ${grownMiB.toFixed(0)} MiB at most`);
  assert.ok(grownMiB < maxGrowthMiB, `more than ${maxGrowthMiB} MiB`);
  await held.letsGo(holdings);
  const vitalsAfter = await vitalsReturn(held.relay.pid, vitalsBefore, RESIDENT_MARGIN_MIB);
  const cores = await coresUsed(held.relay.pid, IDLE_MS);
  assert.ok(cores < IDLE_CORES, `an idle relay uses ${cores} of a core`);
  reportFault(context, fault, { before, during, vitalsBefore, vitalsAfter });
  return transfers.length;
}

/** The most that a process has held in RAM, in MiB. */
function peakMiB(pid: number): number {
  const found = /^VmHWM:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(found?.[1]) / 1024;
}
