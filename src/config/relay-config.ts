import { ACME_DEFAULTS, checkAcmeEndpoints, readAcmeConfig } from './acme-config.ts';
import type { AcmeConfig } from './acme-config.ts';
import { CLUSTER_DEFAULTS, CLUSTER_SECRETS, readClusterConfig } from './cluster-config.ts';
import type { ClusterConfig } from './cluster-config.ts';
import { ENDPOINT_GRAMMAR } from './endpoint.ts';
import type { BoundEndpoint, Endpoint } from './endpoint.ts';
import { EnvironmentReader, readSecretFile } from './environment.ts';
import type { ConfigResult, Environment } from './environment.ts';
import { readInheritedSockets } from './inherited-sockets.ts';
import type { InheritedSockets } from './inherited-sockets.ts';
import type { Cidr } from './trusted-proxies.ts';
import { warnAboutUnusedSettings } from './unused-settings.ts';
import {
  parseWholeNumber,
  parser,
  toBlurSeconds,
  toCidrs,
  toCount,
  toCountOrAuto,
  toCountRate,
  toDayOfMonth,
  toDurationMs,
  toEndpoints,
  toInternalEndpoints,
  toLogLevel,
  toPositiveSizeBytes,
  toQuota,
  toRateBytesPerSecond,
  toRetentionMs,
  toSizeBytes,
  toTimeoutMs,
} from './values.ts';
import type { CountRate, LogLevel } from './values.ts';

/** The validated configuration of a relay. */
export interface RelayConfig {
  readonly listen: {
    readonly raw: readonly Endpoint[];
    readonly websocket: readonly Endpoint[];
    readonly status: readonly BoundEndpoint[];
    /** Sockets for `systemd:` endpoints. */
    readonly inherited: InheritedSockets;
  };
  readonly usage: {
    readonly databasePath: string | null;
    readonly logFd: number | null;
    /** 0 means off. */
    readonly blurSeconds: number;
    /** Age at which records in the database are deleted; null: never. */
    readonly retentionMs: number | null;
  };
  /** Null means off. */
  readonly timeouts: {
    readonly handshakeMs: number | null;
    readonly waitMs: number | null;
    readonly idleMs: number | null;
  };
  /** Null means unlimited. */
  readonly limits: {
    /** `auto`: as many as the file descriptor limit allows. */
    readonly maxConnections: number | 'auto' | null;
    /** `auto`: half of the connections. */
    readonly maxWaiting: number | 'auto' | null;
    readonly connectionsPerAddress: number | null;
    readonly newConnectionsPerAddress: CountRate | null;
    readonly pairBytesPerSecond: number | null;
    readonly totalBytesPerSecond: number | null;
    readonly pairBytes: number | null;
  };
  /** Null means unlimited. */
  readonly quota: {
    readonly limitBytes: number;
    readonly period: 'month' | 'day';
    readonly resetDay: number;
    readonly counts: 'relayed' | 'in+out';
    /** Path of the quota file. */
    readonly path: string;
    /** How long running pairs may continue after the quota is used up; null: until they end. */
    readonly graceMs: number | null;
  } | null;
  /** Proxies that are trusted to report client addresses. */
  readonly trustedProxies: readonly Cidr[];
  readonly logLevel: LogLevel;
  /** Buffer memory for slow receivers, in addition to a small amount for each. */
  readonly bufferMemoryBytes: number;
  readonly drain: {
    /** How long partners of waiting clients are still accepted. */
    readonly delayMs: number;
    /** How long running pairs may continue. */
    readonly timeoutMs: number;
  };
  /** Null: this relay is not in a cluster. */
  readonly cluster: ClusterConfig | null;
  /** Null: this relay gets no certificate by ACME. */
  readonly acme: AcmeConfig | null;
}

/** All variables with their defaults. An empty value means off. */
export const RELAY_DEFAULTS = {
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
  // The receiving person has to accept the transfer, and may be asleep.
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
  ...ACME_DEFAULTS,
  ...CLUSTER_DEFAULTS,
} as const;

/** Appended to the path of the usage database if RELAY_QUOTA_STATE is not set. */
const QUOTA_SUFFIX = '-quota.json';

const toFileDescriptor = parser('the number of an open file descriptor, from 1', (text) =>
  parseWholeNumber(text, 1, 999_999),
);

const toQuotaDirection = parser(
  'relayed (counts each byte once) or in+out (counts it twice, when received and when sent)',
  (text) => (text === 'relayed' || text === 'in+out' ? text : null),
);

/**
 * Reads the relay's configuration from the environment. It opens no files except those that `…_FILE`
 * variables name. It reports all errors together, and a warning for each unknown variable with the prefix.
 *
 * @param pid of this process: sockets that systemd has passed to another process are ignored
 */
export function readRelayConfig(
  environment: Environment,
  pid: number,
  readFile = readSecretFile,
): ConfigResult<RelayConfig> {
  const env = new EnvironmentReader(environment, {
    prefix: 'RELAY_',
    defaults: RELAY_DEFAULTS,
    secrets: CLUSTER_SECRETS,
    readFile,
  });
  const databasePath = env.read('RELAY_USAGE_DB', null, (text) => text);
  const raw = env.read('RELAY_LISTEN', [], toEndpoints);
  const websocket = env.read('RELAY_WEBSOCKET_LISTEN', [], toEndpoints);
  const acme = readAcmeConfig(env, databasePath);
  const added = checkAcmeEndpoints(env, acme, { RELAY_LISTEN: raw, RELAY_WEBSOCKET_LISTEN: websocket });
  const config: RelayConfig = {
    listen: {
      raw: added === null ? raw : [...raw, added],
      websocket,
      status: env.read('RELAY_STATUS_LISTEN', [], toInternalEndpoints),
      inherited: readInheritedSockets(environment, pid),
    },
    usage: {
      databasePath,
      logFd: env.read('RELAY_LOG_FD', null, toFileDescriptor),
      blurSeconds: env.read('RELAY_BLUR_USAGE', 0, toBlurSeconds),
      retentionMs: env.read('RELAY_USAGE_RETENTION', null, toRetentionMs),
    },
    timeouts: {
      handshakeMs: env.read('RELAY_HANDSHAKE_TIMEOUT', null, toTimeoutMs),
      waitMs: env.read('RELAY_WAIT_TIMEOUT', null, toTimeoutMs),
      idleMs: env.read('RELAY_IDLE_TIMEOUT', null, toTimeoutMs),
    },
    limits: {
      maxConnections: env.read('RELAY_MAX_CONNECTIONS', null, toCountOrAuto),
      maxWaiting: env.read('RELAY_MAX_WAITING', null, toCountOrAuto),
      connectionsPerAddress: env.read('RELAY_MAX_CONNECTIONS_PER_ADDRESS', null, toCount),
      newConnectionsPerAddress: env.read('RELAY_NEW_CONNECTIONS_PER_ADDRESS', null, toCountRate),
      pairBytesPerSecond: env.read('RELAY_PAIR_RATE', null, toRateBytesPerSecond),
      totalBytesPerSecond: env.read('RELAY_TOTAL_RATE', null, toRateBytesPerSecond),
      pairBytes: env.read('RELAY_PAIR_BYTES', null, toPositiveSizeBytes),
    },
    quota: readQuotaConfig(env, databasePath),
    trustedProxies: env.read('RELAY_TRUSTED_PROXIES', [], toCidrs),
    logLevel: env.read('RELAY_LOG_LEVEL', 'silent', toLogLevel),
    bufferMemoryBytes: env.read('RELAY_BUFFER_MEMORY', 0, toSizeBytes),
    drain: {
      delayMs: env.read('RELAY_DRAIN_DELAY', 0, toDurationMs),
      timeoutMs: env.read('RELAY_DRAIN_TIMEOUT', 0, toDurationMs),
    },
    cluster: readClusterConfig(env),
    acme,
  };

  const { errors } = env;
  const listensNowhere = config.listen.raw.length + config.listen.websocket.length === 0;
  if (listensNowhere && !env.hasError('RELAY_WEBSOCKET_LISTEN')) {
    const problem = 'RELAY_WEBSOCKET_LISTEN is empty too, so no client could connect';
    env.rejectEmpty('RELAY_LISTEN', `${ENDPOINT_GRAMMAR}, in one of the two`, problem);
  }
  warnAboutUnusedSettings(env, config);
  const report = { warnings: env.warnings, settings: env.settings };
  return errors.length > 0 ? { kind: 'errors', errors, ...report } : { kind: 'ok', config, ...report };
}

type Variable = keyof typeof RELAY_DEFAULTS;

function readQuotaConfig(
  env: EnvironmentReader<Variable>,
  databasePath: string | null,
): RelayConfig['quota'] {
  const quota = env.read('RELAY_QUOTA', null, toQuota);
  const resetDay = env.read('RELAY_QUOTA_RESET_DAY', 1, toDayOfMonth);
  const counts = env.read('RELAY_QUOTA_COUNTS', 'relayed', toQuotaDirection);
  const graceMs = env.read('RELAY_QUOTA_GRACE', null, toDurationMs);
  const defaultPath = databasePath === null ? null : `${databasePath}${QUOTA_SUFFIX}`;
  const path = env.read('RELAY_QUOTA_STATE', defaultPath, (text) => text);
  if (quota === null) return null;
  if (path === null) {
    const problem = 'RELAY_QUOTA must survive restarts, and there is no usage database to store it beside';
    env.rejectEmpty('RELAY_QUOTA_STATE', 'the path of a file that the relay may write', problem);
    return null;
  }
  return { limitBytes: quota.bytes, period: quota.period, resetDay, counts, path, graceMs };
}
