import { setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Signals } from '../process/signals.ts';
import { hideUnusedExports } from '../process/unused-exports.ts';

/** The lowest CPU priority, which needs no privileges: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);
hideUnusedExports();
// Both save about 5 MB. Loading would grow V8's young generation from 1 to 4 MiB, and would use its slowest compiler,
// which is loaded on its first use. Job processes do the work that allocates or computes much.
setFlagsFromString('--semi-space-growth-factor=1');
setFlagsFromString('--invocation-count-for-turbofan=100000');

const [{ runProgram }, { sidecarProgram }] = [
  await import('../process/program.ts'),
  await import('./sidecar.ts'),
];
await runProgram(sidecarProgram, signals);
