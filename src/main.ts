import { setFlagsFromString } from 'node:v8';
import { Signals } from './signals.ts';

const signals = new Signals();

// What moving bytes leaves behind is little and short-lived. Left to itself V8 takes it for a reason to
// grow the young generation to 128 MiB, and keeps that.
setFlagsFromString('--semi-space-growth-factor=1');

const [{ runProgram }, { relayProgram }] = [await import('./program.ts'), await import('./relay-program.ts')];
await runProgram(relayProgram, signals);
