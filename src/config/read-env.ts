import { ENDPOINT_GRAMMAR } from '../net/endpoint.ts';
import type { Config, Fault, LogLevel } from './config.ts';
import { EnvironmentReader, Refusal } from './environment.ts';
import type { Environment } from './environment.ts';
import { readSecretFile } from './secret-file.ts';
import { toDurationMs, toEndpoints, toLogLevel, toSizeBytes, toTimeoutMs } from './values.ts';

/** Every variable there is, with what it is when the environment does not say. An empty value means off. */
export const DEFAULTS = {
  RELAY_LISTEN: 'tcp:4001',
  RELAY_WEBSOCKET_LISTEN: '',
  RELAY_STATUS_LISTEN: 'tcp:4003:interface=127.0.0.1',
  RELAY_USAGE_DB: '',
  RELAY_LOG_FD: '',
  RELAY_BLUR_USAGE: '0',
  RELAY_LOG_LEVEL: 'info',
  RELAY_BUFFER_MEMORY: '64MiB',
  RELAY_HANDSHAKE_TIMEOUT: '30s',
  // People have to consent on the other side, and may be asleep.
  RELAY_WAIT_TIMEOUT: '24h',
  RELAY_IDLE_TIMEOUT: '24h',
  // Containers are killed 10 s after they were told to stop, and the records have to be written in that time too.
  RELAY_DRAIN_TIMEOUT: '8s',
} as const;

const CLIENT_LISTENERS: ReadonlySet<string> = new Set(['RELAY_LISTEN', 'RELAY_WEBSOCKET_LISTEN']);

/** A configuration, or what is wrong with it. */
export type ReadResult<T> =
  | { readonly kind: 'ok'; readonly config: T; readonly warnings: readonly string[] }
  | { readonly kind: 'faults'; readonly faults: readonly Fault[]; readonly warnings: readonly string[] };

/**
 * Reads the relay's configuration from the environment. Nothing is opened or looked up but the files that
 * `…_FILE` variables name.
 *
 * All faults are found in one go. Variables that look like ours and are not known are warnings.
 */
export function readEnv(environment: Environment, readFile = readSecretFile): ReadResult<Config> {
  const env = new EnvironmentReader(environment, { prefix: 'RELAY_', defaults: DEFAULTS, readFile });
  const config: Config = {
    listen: {
      raw: env.read('RELAY_LISTEN', [], toEndpoints),
      websocket: env.read('RELAY_WEBSOCKET_LISTEN', [], toEndpoints),
      status: env.read('RELAY_STATUS_LISTEN', [], toEndpoints),
    },
    usage: {
      databasePath: env.read<string | null>('RELAY_USAGE_DB', null, (text) => text),
      logFd: env.read<number | null>('RELAY_LOG_FD', null, toFileDescriptor),
      blurSeconds: env.read('RELAY_BLUR_USAGE', 0, toBlurSeconds),
    },
    timeouts: {
      handshakeMs: env.read<number | null>('RELAY_HANDSHAKE_TIMEOUT', null, toTimeoutMs),
      waitMs: env.read<number | null>('RELAY_WAIT_TIMEOUT', null, toTimeoutMs),
      idleMs: env.read<number | null>('RELAY_IDLE_TIMEOUT', null, toTimeoutMs),
    },
    logLevel: env.read<LogLevel>('RELAY_LOG_LEVEL', 'silent', toLogLevel),
    bufferMemoryBytes: env.read('RELAY_BUFFER_MEMORY', 0, toSizeBytes),
    drainTimeoutMs: env.read('RELAY_DRAIN_TIMEOUT', 0, toDurationMs),
  };

  const { faults, warnings } = env;
  const listensNowhere = config.listen.raw.length + config.listen.websocket.length === 0;
  if (
    listensNowhere &&
    !faults.some(({ variable }) => CLIENT_LISTENERS.has(variable.replace(/_FILE$/u, '')))
  ) {
    const problem = 'RELAY_WEBSOCKET_LISTEN is empty too, so that no client could come';
    env.refuse('RELAY_LISTEN', '', new Refusal(`${ENDPOINT_GRAMMAR}, in one of the two`, problem));
  }
  return faults.length > 0 ? { kind: 'faults', faults, warnings } : { kind: 'ok', config, warnings };
}

function toFileDescriptor(text: string): number {
  const fd = Number(text);
  if (/^\d{1,6}$/u.test(text) && fd > 0) return fd;
  throw new Refusal('the number of an open file descriptor, from 1');
}

function toBlurSeconds(text: string): number {
  if (/^\d{1,9}$/u.test(text)) return Number(text);
  throw new Refusal('whole seconds from 0 (exact records) to 999999999');
}
