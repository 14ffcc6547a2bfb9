import { ENDPOINT_GRAMMAR } from '../net/endpoint.ts';
import { CLUSTER_DEFAULTS, CLUSTER_SECRETS, readCluster } from './cluster-config.ts';
import type { Config, LogLevel } from './config.ts';
import type { Fault } from './fault.ts';
import { EnvironmentReader, Refusal } from './environment.ts';
import type { Environment } from './environment.ts';
import { readInherited } from './inherited-sockets.ts';
import { toPlainEndpoints } from './plain-endpoints.ts';
import { readSecretFile } from './secret-file.ts';
import {
  toCidrs,
  toCount,
  toCountRate,
  toDayOfMonth,
  toDurationMs,
  toEndpoints,
  toLogLevel,
  toPositiveSize,
  toQuota,
  toRate,
  toRetentionMs,
  toSizeBytes,
  toTimeoutMs,
} from './values.ts';
import type { CountRate, QuotaSize } from './units.ts';

/** Every variable there is, with what it is when the environment does not say. An empty value means off. */
export const DEFAULTS = {
  RELAY_LISTEN: 'tcp:4001',
  RELAY_WEBSOCKET_LISTEN: '',
  RELAY_STATUS_LISTEN: 'tcp:4003:interface=127.0.0.1',
  RELAY_USAGE_DB: '',
  RELAY_USAGE_RETENTION: '',
  RELAY_LOG_FD: '',
  RELAY_BLUR_USAGE: '0',
  RELAY_LOG_LEVEL: 'info',
  RELAY_BUFFER_MEMORY: '64MiB',
  RELAY_HANDSHAKE_TIMEOUT: '30s',
  // People have to consent on the other side, and may be asleep.
  RELAY_WAIT_TIMEOUT: '24h',
  RELAY_IDLE_TIMEOUT: '24h',
  RELAY_MAX_CONNECTIONS: 'auto',
  RELAY_MAX_WAITING: 'auto',
  RELAY_MAX_CONNECTIONS_PER_ADDRESS: '',
  RELAY_NEW_CONNECTIONS_PER_ADDRESS: '',
  RELAY_TRUSTED_PROXIES: '',
  RELAY_PAIR_RATE: '',
  RELAY_TOTAL_RATE: '',
  RELAY_PAIR_BYTES: '',
  RELAY_QUOTA: '',
  RELAY_QUOTA_RESET_DAY: '1',
  RELAY_QUOTA_COUNTS: 'relayed',
  RELAY_QUOTA_STATE: '',
  RELAY_QUOTA_GRACE: '',
  RELAY_DRAIN_DELAY: '5s',
  RELAY_DRAIN_TIMEOUT: '5m',
  ...CLUSTER_DEFAULTS,
} as const;

/** Follows the path of the usage database where the quota has no file of its own. */
const QUOTA_SUFFIX = '-quota.json';

const CLIENT_LISTENERS: ReadonlySet<string> = new Set(['RELAY_LISTEN', 'RELAY_WEBSOCKET_LISTEN']);

/** A configuration, or what is wrong with it. */
export type ReadResult<T> =
  | { readonly kind: 'ok'; readonly config: T; readonly warnings: readonly string[] }
  | { readonly kind: 'faults'; readonly faults: readonly Fault[]; readonly warnings: readonly string[] };

/**
 * Reads the relay's configuration from the environment. Nothing is opened or looked up but the files that
 * `…_FILE` variables name.
 *
 * @param pid of this process: sockets that systemd has passed to another are not ours
 *
 * All faults are found in one go. Variables that look like ours and are not known are warnings.
 */
export function readEnv(
  environment: Environment,
  pid: number,
  readFile = readSecretFile,
): ReadResult<Config> {
  const env = new EnvironmentReader(environment, {
    prefix: 'RELAY_',
    defaults: DEFAULTS,
    secrets: CLUSTER_SECRETS,
    readFile,
  });
  const databasePath = env.read<string | null>('RELAY_USAGE_DB', null, (text) => text);
  const config: Config = {
    listen: {
      raw: env.read('RELAY_LISTEN', [], toEndpoints),
      websocket: env.read('RELAY_WEBSOCKET_LISTEN', [], toEndpoints),
      status: env.read('RELAY_STATUS_LISTEN', [], toPlainEndpoints),
      inherited: readInherited(environment, pid),
    },
    usage: {
      databasePath,
      logFd: env.read<number | null>('RELAY_LOG_FD', null, toFileDescriptor),
      blurSeconds: env.read('RELAY_BLUR_USAGE', 0, toBlurSeconds),
      retentionMs: env.read<number | null>('RELAY_USAGE_RETENTION', null, toRetentionMs),
    },
    timeouts: {
      handshakeMs: env.read<number | null>('RELAY_HANDSHAKE_TIMEOUT', null, toTimeoutMs),
      waitMs: env.read<number | null>('RELAY_WAIT_TIMEOUT', null, toTimeoutMs),
      idleMs: env.read<number | null>('RELAY_IDLE_TIMEOUT', null, toTimeoutMs),
    },
    limits: {
      maxConnections: env.read<number | 'auto' | null>('RELAY_MAX_CONNECTIONS', null, toCountOrAuto),
      maxWaiting: env.read<number | 'auto' | null>('RELAY_MAX_WAITING', null, toCountOrAuto),
      connectionsPerAddress: env.read<number | null>('RELAY_MAX_CONNECTIONS_PER_ADDRESS', null, toCount),
      newConnectionsPerAddress: env.read<CountRate | null>(
        'RELAY_NEW_CONNECTIONS_PER_ADDRESS',
        null,
        toCountRate,
      ),
      pairBytesPerSecond: env.read<number | null>('RELAY_PAIR_RATE', null, toRate),
      totalBytesPerSecond: env.read<number | null>('RELAY_TOTAL_RATE', null, toRate),
      pairBytes: env.read<number | null>('RELAY_PAIR_BYTES', null, toPositiveSize),
    },
    quota: readQuota(env, databasePath),
    trustedProxies: env.read('RELAY_TRUSTED_PROXIES', [], toCidrs),
    logLevel: env.read<LogLevel>('RELAY_LOG_LEVEL', 'silent', toLogLevel),
    bufferMemoryBytes: env.read('RELAY_BUFFER_MEMORY', 0, toSizeBytes),
    drain: {
      delayMs: env.read('RELAY_DRAIN_DELAY', 0, toDurationMs),
      timeoutMs: env.read('RELAY_DRAIN_TIMEOUT', 0, toDurationMs),
    },
    cluster: readCluster(env),
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

type Variable = keyof typeof DEFAULTS;

function readQuota(env: EnvironmentReader<Variable>, databasePath: string | null): Config['quota'] {
  const quota = env.read<QuotaSize | null>('RELAY_QUOTA', null, toQuota);
  const resetDay = env.read('RELAY_QUOTA_RESET_DAY', 1, toDayOfMonth);
  const counts = env.read<'relayed' | 'in+out'>('RELAY_QUOTA_COUNTS', 'relayed', toQuotaCounts);
  const graceMs = env.read<number | null>('RELAY_QUOTA_GRACE', null, toDurationMs);
  const beside = databasePath === null ? null : `${databasePath}${QUOTA_SUFFIX}`;
  const path = env.read<string | null>('RELAY_QUOTA_STATE', beside, (text) => text);
  if (quota === null) return null;
  if (path === null) {
    const problem = 'RELAY_QUOTA has to outlive a restart, and there is no usage database to keep it beside';
    env.refuse('RELAY_QUOTA_STATE', '', new Refusal('the path of a file that the relay may write', problem));
    return null;
  }
  return { limitBytes: quota.bytes, period: quota.period, resetDay, counts, path, graceMs };
}

function toQuotaCounts(text: string): 'relayed' | 'in+out' {
  if (text === 'relayed' || text === 'in+out') return text;
  throw new Refusal('relayed (each byte once) or in+out (as it comes and as it goes: twice)');
}

function toCountOrAuto(text: string): number | 'auto' {
  if (text.toLowerCase() === 'auto') return 'auto';
  try {
    return toCount(text);
  } catch (error) {
    if (error instanceof Refusal) throw new Refusal(`auto, or ${error.accepted}`);
    throw error;
  }
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
