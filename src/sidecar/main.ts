import { setPriority } from 'node:os';
import { beginLoading, endLoading } from '../process/loading.ts';
import { Signals } from '../process/signals.ts';

/** The lowest CPU priority, which needs no privileges: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);
beginLoading();

const [{ runProgram }, { sidecarProgram }] = [
  await import('../process/program.ts'),
  await import('./sidecar.ts'),
];
await runProgram(sidecarProgram, signals);
endLoading();
