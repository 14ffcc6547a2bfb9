import { crc32 } from 'node:zlib';
import { Dice } from '../support/dice.ts';
import type { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';
import { shrink } from './shrink.ts';
import { pick } from './target.ts';
import type { Choices, Target } from './target.ts';

/** An input that breaks a target. */
export interface Finding {
  readonly input: Buffer;
  /** With its stack. */
  readonly reason: string;
}

/** A slower input is a finding, in milliseconds; typical ones take less than one. */
const MAX_MS = 2000;
const SLOW = 'took';

/** How often minimising is attempted for an input with new behaviour, and for one that broke a target. */
const TRIES_FOR_ENTRY = 60;
const TRIES_FOR_FINDING = 1500;

/** Number of newest entries. */
const NEWEST = 5;

/** Searches for inputs with new behaviour, and for those that break the target. */
export class Fuzzer {
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #random: Dice;
  readonly #dictionary: Choices<Buffer>;
  /** Called with each input before it runs, so that an input that hangs is known to another thread. */
  readonly #onInput: (input: Buffer) => void;
  readonly #seen = new Set<string>();
  readonly #corpus: [Buffer, ...Buffer[]] = [Buffer.alloc(0)];
  #executions = 0;

  constructor(target: Target, coverage: Coverage, random: Dice, onInput: (input: Buffer) => void = () => {}) {
    this.#target = target;
    this.#coverage = coverage;
    this.#random = random;
    this.#onInput = onInput;
    const [first, ...others] = target.dictionary;
    this.#dictionary = [toBytes(first), ...others.map(toBytes)];
    // Code that ran while the target was loaded does not count for an input.
    coverage.take();
  }

  get executions(): number {
    return this.#executions;
  }

  get corpus(): readonly Buffer[] {
    return this.#corpus;
  }

  /** Runs one input, from the grammar or mutated, and keeps it if it shows new behaviour. */
  step(): Finding | null {
    const input = this.#random.happens(0.25)
      ? toBytes(this.#target.make(this.#random))
      : mutate(this.#pickEntry(), this.#random, {
          corpus: this.#corpus,
          dictionary: this.#dictionary,
        });
    return this.try(input, TRIES_FOR_ENTRY);
  }

  /** Runs an existing input, and keeps it if it shows new behaviour. */
  try(input: Buffer, tries = 0): Finding | null {
    const outcome = this.#run(input);
    if (typeof outcome === 'string') return this.#shrinkFinding(input, outcome);
    const newFeatures = outcome.filter((feature) => !this.#seen.has(feature));
    if (newFeatures.length === 0) return null;
    const smallest = shrink(
      input,
      (smaller) => {
        const features = this.#run(smaller);
        return typeof features !== 'string' && newFeatures.every((feature) => features.includes(feature));
      },
      tries,
    );
    for (const feature of newFeatures) this.#seen.add(feature);
    // A block that is seen for the first time makes known inputs count as new.
    if (!this.#corpus.some((entry) => entry.equals(smallest))) this.#corpus.push(smallest);
    return null;
  }

  /** Often one of the newest, because their neighbourhood is least explored. */
  #pickEntry(): Buffer {
    const { length } = this.#corpus;
    const newest = this.#corpus[length - this.#random.between(1, Math.min(length, NEWEST))];
    return newest !== undefined && this.#random.happens(0.4) ? newest : pick(this.#random, this.#corpus);
  }

  /** A small corpus with the same coverage; greedy, inputs with most blocks first. */
  distill(maxInputs: number): Buffer[] {
    const missing = new Set<string>();
    const entries = this.#corpus.map((input) => {
      const outcome = this.#run(input);
      const features = typeof outcome === 'string' ? [] : outcome;
      // Covered blocks count first, then their counts.
      const blocks = features.map((feature) => feature.replace(/x\d+$/u, ''));
      for (const feature of [...blocks, ...features]) missing.add(feature);
      return { input, features: [...blocks, ...features] };
    });
    const distilled: Buffer[] = [];
    while (distilled.length < maxInputs) {
      const scores = entries.map(({ features }) =>
        features.reduce(
          (sum, feature) => sum + (missing.has(feature) ? (feature.includes('x') ? 1 : 100) : 0),
          0,
        ),
      );
      const best = entries[scores.indexOf(Math.max(...scores))];
      if (best === undefined || !best.features.some((feature) => missing.has(feature))) break;
      for (const feature of best.features) missing.delete(feature);
      distilled.push(best.input);
    }
    return distilled;
  }

  /** Coverage of the input, or its finding. */
  #run(input: Buffer): string[] | string {
    this.#executions += 1;
    this.#onInput(input);
    const reason = reasonAgainst(this.#target, input);
    return reason ?? this.#coverage.take();
  }

  #shrinkFinding(input: Buffer, firstReason: string): Finding {
    // A slow input is not minimised: that would take minutes.
    const tries = firstReason.startsWith(SLOW) ? 0 : TRIES_FOR_FINDING;
    const smallest = shrink(input, (smaller) => typeof this.#run(smaller) === 'string', tries);
    return { input: smallest, reason: reasonAgainst(this.#target, smallest) ?? firstReason };
  }
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

function toBytes(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}
