import type { Finding } from './search.ts';
import type { TargetName } from './targets.ts';

/** Job of a thread. */
export interface Job {
  readonly target: TargetName;
  readonly seconds: number;
  readonly seed: number;
  /** The current input: its length in 4 bytes, then its bytes. */
  readonly current: SharedArrayBuffer;
}

/** Report of a thread at its end. */
export interface Report {
  readonly executions: number;
  readonly finding: Finding | null;
}

const LENGTH_BYTES = 4;

/** Maximum bytes of an input. */
export function roomForInput(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(LENGTH_BYTES + bytes);
}

export function noteInput(buffer: SharedArrayBuffer, input: Uint8Array): void {
  new DataView(buffer).setUint32(0, input.length);
  new Uint8Array(buffer, LENGTH_BYTES).set(input);
}

export function notedInput(buffer: SharedArrayBuffer): Buffer {
  return Buffer.from(new Uint8Array(buffer, LENGTH_BYTES, new DataView(buffer).getUint32(0)));
}
