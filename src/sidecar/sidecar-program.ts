import { readSidecarEnv } from '../config/sidecar-config.ts';
import type { SidecarConfig } from '../config/sidecar-config.ts';
import { ListenError } from '../net/listener.ts';
import type { Program } from '../program.ts';
import { Sidecar } from './sidecar.ts';
import { SnapshotError } from './snapshot-store.ts';

/** The sidecar as a program. `main.ts` imports it after it has installed the signal handlers. */
export const sidecarProgram: Program<SidecarConfig> = {
  read: (environment) => readSidecarEnv(environment),
  create: (config, log) => new Sidecar(config, log),
  refusals: [ListenError, SnapshotError],
};
