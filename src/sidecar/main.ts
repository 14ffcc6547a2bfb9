import { getPriority, setPriority } from 'node:os';
import { readSidecarEnv } from '../config/sidecar-config.ts';
import { ListenError } from '../net/listener.ts';
import { runProgram } from '../program.ts';
import { Sidecar } from './sidecar.ts';
import { SnapshotError } from './snapshot-store.ts';

/** Transfers come first: the relay gets the processor before this. */
const NICE = 10;

// Nobody but root may take more of the processor than it was given.
setPriority(Math.max(NICE, getPriority()));

await runProgram({
  read: readSidecarEnv,
  create: (config, log) => new Sidecar(config, log),
  refusals: [ListenError, SnapshotError],
});
