import type { TargetName } from './targets.ts';

/** What a thread is told when it starts. */
export interface Job {
  readonly target: TargetName;
  readonly seconds: number;
  readonly seed: number;
  /** The input that is being tried: its length in 4 bytes, and then itself. */
  readonly current: SharedArrayBuffer;
}

/** What a thread says at its end. */
export interface Report {
  readonly executions: number;
  readonly seconds: number;
  /** Inputs that did something new. */
  readonly entries: number;
  readonly blocks: number;
  readonly coveredBlocks: number;
  /** What is worth keeping of them, when nothing was found. */
  readonly corpus: readonly Uint8Array[];
  readonly finding: { readonly input: Uint8Array; readonly reason: string } | null;
}

const LENGTH_BYTES = 4;

/** Room for inputs up to this many bytes. */
export function roomForInput(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(LENGTH_BYTES + bytes);
}

export function noteInput(room: SharedArrayBuffer, input: Uint8Array): void {
  new DataView(room).setUint32(0, input.length);
  new Uint8Array(room, LENGTH_BYTES).set(input);
}

export function notedInput(room: SharedArrayBuffer): Buffer {
  return Buffer.from(new Uint8Array(room, LENGTH_BYTES, new DataView(room).getUint32(0)));
}
