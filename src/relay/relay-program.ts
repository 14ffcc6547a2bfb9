import { readRelayConfig } from '../config/relay-config.ts';
import type { RelayConfig } from '../config/relay-config.ts';
import { QuotaFileError } from '../limits/quota-file.ts';
import { LineWriterError } from '../process/line-writer.ts';
import type { Program } from '../process/program.ts';
import { ListenError } from '../transport/listener.ts';
import { CertificateError } from '../transport/tls-credentials.ts';
import { UsageDatabaseError } from '../usage/sqlite-sink.ts';
import { Relay } from './relay.ts';

/** The relay as a program. `main.ts` imports it after it has installed the signal handlers. */
export const relayProgram: Program<RelayConfig> = {
  read: readRelayConfig,
  create: (config, log) => new Relay(config, log),
  startupErrors: [ListenError, CertificateError, QuotaFileError, UsageDatabaseError, LineWriterError],
};
