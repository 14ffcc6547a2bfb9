import { setPriority } from 'node:os';
import { Signals } from '../process/signals.ts';

/** The last in line, where everybody may put himself: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);

const [{ runProgram }, { sidecarProgram }] = [
  await import('../process/program.ts'),
  await import('./sidecar.ts'),
];
await runProgram(sidecarProgram, signals);
