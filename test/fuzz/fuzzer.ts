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

/** An input that is slower is a finding, in milliseconds; the usual ones take less than one. */
const MAX_MS = 2000;
const SLOW = 'took';

/** How often a smaller input is tried for one that did something new, and for one that broke a target. */
const TRIES_FOR_ENTRY = 60;
const TRIES_FOR_FINDING = 1500;

/** How many entries count as new. */
const NEWEST = 5;

/** Looks for inputs that a target takes in a new way, and for those that break it. */
export class Fuzzer {
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #dice: Dice;
  readonly #dictionary: Choices<Buffer>;
  /** Told of each input before it is tried: should it never end, somebody else has to know which it was. */
  readonly #onInput: (input: Buffer) => void;
  readonly #seen = new Set<string>();
  readonly #corpus: [Buffer, ...Buffer[]] = [Buffer.alloc(0)];
  #executions = 0;

  constructor(target: Target, coverage: Coverage, dice: Dice, onInput: (input: Buffer) => void = () => {}) {
    this.#target = target;
    this.#coverage = coverage;
    this.#dice = dice;
    this.#onInput = onInput;
    const [first, ...others] = target.dictionary;
    this.#dictionary = [toBytes(first), ...others.map(toBytes)];
    // What ran while the target was loaded is no input's doing.
    coverage.take();
  }

  get executions(): number {
    return this.#executions;
  }

  get corpus(): readonly Buffer[] {
    return this.#corpus;
  }

  /** Tries one input, of the grammar or made from what is known, and keeps it if it did something new. */
  step(): Finding | null {
    const input = this.#dice.happens(0.25)
      ? toBytes(this.#target.make(this.#dice))
      : mutate(this.#pickEntry(), this.#dice, {
          corpus: this.#corpus,
          dictionary: this.#dictionary,
        });
    return this.try(input, TRIES_FOR_ENTRY);
  }

  /** Tries an input that is there, and keeps it if it did something new. */
  try(input: Buffer, tries = 0): Finding | null {
    const outcome = this.#run(input);
    if (typeof outcome === 'string') return this.#shrinkFinding(input, outcome);
    const news = outcome.filter((feature) => !this.#seen.has(feature));
    if (news.length === 0) return null;
    const smallest = shrink(
      input,
      (smaller) => {
        const features = this.#run(smaller);
        return typeof features !== 'string' && news.every((feature) => features.includes(feature));
      },
      tries,
    );
    for (const feature of news) this.#seen.add(feature);
    // A block that is told apart for the first time makes news of what is known.
    if (!this.#corpus.some((entry) => entry.equals(smallest))) this.#corpus.push(smallest);
    return null;
  }

  /** Often one of the newest: what they do is least explored. */
  #pickEntry(): Buffer {
    const { length } = this.#corpus;
    const newest = this.#corpus[length - this.#dice.between(1, Math.min(length, NEWEST))];
    return newest !== undefined && this.#dice.happens(0.4) ? newest : pick(this.#dice, this.#corpus);
  }

  /** A corpus as small as it can easily be that does all that this one does; what runs most blocks comes first. */
  distill(most: number): Buffer[] {
    const missing = new Set<string>();
    const entries = this.#corpus.map((input) => {
      const outcome = this.#run(input);
      const features = typeof outcome === 'string' ? [] : outcome;
      // Which blocks run counts first, and how often they do after that.
      const blocks = features.map((feature) => feature.replace(/x\d+$/u, ''));
      for (const feature of [...blocks, ...features]) missing.add(feature);
      return { input, features: [...blocks, ...features] };
    });
    const distilled: Buffer[] = [];
    while (distilled.length < most) {
      const worths = entries.map(({ features }) =>
        features.reduce((sum, one) => sum + (missing.has(one) ? (one.includes('x') ? 1 : 100) : 0), 0),
      );
      const best = entries[worths.indexOf(Math.max(...worths))];
      if (best === undefined || !best.features.some((feature) => missing.has(feature))) break;
      for (const feature of best.features) missing.delete(feature);
      distilled.push(best.input);
    }
    return distilled;
  }

  /** What the input did, or what went wrong. */
  #run(input: Buffer): string[] | string {
    this.#executions += 1;
    this.#onInput(input);
    const reason = reasonAgainst(this.#target, input);
    return reason ?? this.#coverage.take();
  }

  #shrinkFinding(input: Buffer, first: string): Finding {
    // A slow one is left as it is: to shrink it would take minutes.
    const tries = first.startsWith(SLOW) ? 0 : TRIES_FOR_FINDING;
    const smallest = shrink(input, (smaller) => typeof this.#run(smaller) === 'string', tries);
    return { input: smallest, reason: reasonAgainst(this.#target, smallest) ?? first };
  }
}

/** Runs one input. Returns null, or what is wrong; that depends on nothing but the input. */
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
