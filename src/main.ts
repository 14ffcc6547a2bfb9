import { setFlagsFromString } from 'node:v8';
import { Signals } from './process/signals.ts';

const signals = new Signals();

const [{ runProgram }, { relayProgram }] = [
  await import('./process/program.ts'),
  await import('./relay/relay.ts'),
];

// Forwarded bytes leave few and short-lived objects, but V8 would grow its young generation to 128 MiB for them and never
// shrink it. Set after loading, which grows it to 4 MiB: with the initial 1 MiB, objects of connections that close within
// milliseconds are moved to the old generation, and a pair costs about 7 % more CPU.
setFlagsFromString('--semi-space-growth-factor=1');

await runProgram(relayProgram, signals);
