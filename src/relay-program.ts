import type { Config } from './config/config.ts';
import { readEnv } from './config/read-env.ts';
import { QuotaFileError } from './limits/quota-file.ts';
import { CertificateError } from './net/certificates.ts';
import { ListenError } from './net/listener.ts';
import { OutputError } from './output.ts';
import type { Program } from './program.ts';
import { Relay } from './relay.ts';
import { UsageDatabaseError } from './usage/sqlite-sink.ts';

/** The relay as a program. `main.ts` imports it after it has installed the signal handlers. */
export const relayProgram: Program<Config> = {
  read: readEnv,
  create: (config, log) => new Relay(config, log),
  refusals: [ListenError, CertificateError, QuotaFileError, UsageDatabaseError, OutputError],
};
