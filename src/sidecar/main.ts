import { setPriority } from 'node:os';
import { readSidecarEnv } from '../config/sidecar-config.ts';
import { ListenError } from '../net/listener.ts';
import { runProgram } from '../program.ts';
import { Sidecar } from './sidecar.ts';
import { SnapshotError } from './snapshot-store.ts';

/** The last in line, where everybody may put himself: transfers come first. */
const NICE = 19;

setPriority(NICE);

await runProgram({
  read: (environment) => readSidecarEnv(environment),
  create: (config, log) => new Sidecar(config, log),
  refusals: [ListenError, SnapshotError],
});
