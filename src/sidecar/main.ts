import { setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { beginLoading, endLoading } from '../process/loading.ts';
import { Signals } from '../process/signals.ts';

/** The lowest CPU priority, which needs no privileges: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);
beginLoading();
// Loading would grow V8's young generation from 1 to 4 MiB, which take 4 MB more from then on. Job processes do
// the work that allocates much.
setFlagsFromString('--semi-space-growth-factor=1');

const [{ runProgram }, { sidecarProgram }] = [
  await import('../process/program.ts'),
  await import('./sidecar.ts'),
];
await runProgram(sidecarProgram, signals);
endLoading();
