import { crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { Dice } from '../support/dice.ts';
import { inputsOf } from './inputs.ts';
import { shrink } from './shrink.ts';
import type { Target } from './target.ts';

/** An input that breaks a target. */
export interface Finding {
  readonly input: Uint8Array;
  /** With its stack. */
  readonly reason: string;
}

interface Search {
  /** They run first. */
  readonly stored: readonly Buffer[];
  readonly seconds: number;
  readonly seed: number;
  /** Called with each input before it runs, so that an input that hangs is known to another thread. */
  readonly onInput?: (input: Buffer) => void;
}

/** A slower input is a finding, in milliseconds; typical ones take less than one. */
const MAX_MS = 2000;

const SLOW = 'took';

/** How often minimising a finding is attempted. */
const MAX_SHRINK_TRIES = 1500;

/** Searches for an input that breaks the target. */
export function search(
  target: Target,
  { stored, seconds, seed, onInput = () => {} }: Search,
): { readonly executions: number; readonly finding: Finding | null } {
  let executions = 0;
  const reasonOf = (input: Buffer): string | null => {
    executions += 1;
    onInput(input);
    return reasonAgainst(target, input);
  };
  const isBroken = (input: Buffer): boolean => reasonOf(input) !== null;
  const generated = (): Buffer | undefined =>
    fc.check(
      fc.property(inputsOf(target, stored), (input) => !isBroken(input)),
      {
        seed,
        numRuns: Number.MAX_SAFE_INTEGER,
        interruptAfterTimeLimit: seconds * 1000,
        // Its arrays shrink to their end, and parsers read from the start.
        endOnFailure: true,
      },
    ).counterexample?.[0];
  const broken = stored.find(isBroken) ?? generated();
  if (broken === undefined) return { executions, finding: null };
  const reason = reasonOf(broken) ?? `${SLOW} too long, but not the second time`;
  // A slow input is not minimised: that would take minutes.
  const input = shrink(broken, isBroken, reason.startsWith(SLOW) ? 0 : MAX_SHRINK_TRIES);
  return { executions, finding: { input, reason: reasonAgainst(target, input) ?? reason } };
}

/** Runs one input. Returns null or the finding, which depends on nothing but the input. */
export function reasonAgainst(target: Target, input: Buffer): string | null {
  const start = performance.now();
  try {
    target.check(input, new Dice(crc32(input)));
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const ms = performance.now() - start;
  return ms > MAX_MS ? `${SLOW} ${Math.round(ms)} ms` : null;
}
