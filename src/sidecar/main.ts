import { setPriority } from 'node:os';
import { Signals } from '../signals.ts';

/** The last in line, where everybody may put himself: transfers come first. */
const NICE = 19;

const signals = new Signals();
setPriority(NICE);

const [{ runProgram }, { sidecarProgram }] = [
  await import('../program.ts'),
  await import('./sidecar-program.ts'),
];
await runProgram(sidecarProgram, signals);
