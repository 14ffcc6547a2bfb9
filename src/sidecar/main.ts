import { setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Signals } from '../process/signals.ts';
import { hideUnusedExports } from '../process/unused-exports.ts';

/** The lowest CPU priority, which needs no privileges: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);
hideUnusedExports();

const [{ runProgram }, { sidecarProgram }] = [
  await import('../process/program.ts'),
  await import('./sidecar.ts'),
];
await runProgram(sidecarProgram, signals);
shrinkHeap();

/**
 * Frees 8 MB that V8 would keep after loading: garbage, and a young generation that has grown from 1 to 4 MiB. Job
 * processes do the work that allocates much. Flags of V8 are set only now: Node's compile cache is valid for those
 * with which it was written.
 */
function shrinkHeap(): void {
  setFlagsFromString('--expose-gc');
  const collectGarbage: unknown = runInNewContext('gc');
  if (typeof collectGarbage === 'function') collectGarbage({ type: 'major', flavor: 'last-resort' });
  setFlagsFromString('--semi-space-growth-factor=1');
}
