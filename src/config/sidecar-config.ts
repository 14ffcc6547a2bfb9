import { correctDuration } from './corrections.ts';
import { COMPOSE_MARKER } from './deployment.ts';
import type { BoundEndpoint } from './endpoint.ts';
import { EnvironmentReader } from './environment.ts';
import type { ConfigResult, ConfigWarning, Environment } from './environment.ts';
import { parseDurationMs, parseWholeNumber, parser, toInternalEndpoints, toLogLevel } from './values.ts';
import type { LogLevel } from './values.ts';

/** The validated configuration of a sidecar. */
export interface SidecarConfig {
  readonly listen: readonly BoundEndpoint[];
  /** Null: no authentication. */
  readonly token: string | null;
  readonly usageDatabasePath: string;
  readonly snapshots: {
    readonly directory: string;
    readonly intervalMs: number;
    readonly keep: number;
  };
  /** URL of the relay's status port, without a trailing slash. */
  readonly relayStatusUrl: string;
  readonly logLevel: LogLevel;
}

/** Without a token, the sidecar listens on the loopback interface only; with a token, on all interfaces. */
export const LISTEN_WITHOUT_TOKEN = 'tcp:4004:interface=127.0.0.1';
export const LISTEN_WITH_TOKEN = 'tcp:4004';

/** All variables with their defaults. */
export const SIDECAR_DEFAULTS = {
  SIDECAR_LISTEN: LISTEN_WITHOUT_TOKEN,
  SIDECAR_TOKEN: '',
  SIDECAR_USAGE_DB: '',
  SIDECAR_SNAPSHOT_DIR: 'snapshots',
  SIDECAR_SNAPSHOT_EVERY: '1h',
  SIDECAR_SNAPSHOT_KEEP: '48',
  SIDECAR_RELAY_STATUS: 'http://127.0.0.1:4003',
  SIDECAR_LOG_LEVEL: 'info',
} as const;

const MIN_SNAPSHOT_INTERVAL_MS = 1000;

/** Each guess takes a network round trip, so a token of this length can't be guessed. */
const MIN_SAFE_TOKEN_LENGTH = 16;

const INTERVAL_GRAMMAR = 'a duration from 1s to 24d, like 15m, 1h or 1d; a number alone is in seconds';
const SNAPSHOT_COUNT_GRAMMAR = 'a whole number from 1 to 100000';
const URL_GRAMMAR = "the base URL of the relay's status port, like http://127.0.0.1:4003";

// Allowed in a header: RFC 9110, field-vchar, without blanks.
const toToken = parser('visible ASCII characters without blanks', (text) =>
  /^[\x21-\x7e]+$/u.test(text) ? text : null,
);

const toSnapshotIntervalMs = parser(
  INTERVAL_GRAMMAR,
  (text) => {
    const ms = parseDurationMs(text);
    return ms !== null && ms >= MIN_SNAPSHOT_INTERVAL_MS ? ms : null;
  },
  correctDuration,
);

const toSnapshotCount = parser(SNAPSHOT_COUNT_GRAMMAR, (text) => parseWholeNumber(text, 1, 100_000));

const toBaseUrl = parser(URL_GRAMMAR, (text) => {
  const url = URL.parse(text);
  const isPlain =
    url !== null && url.username === '' && url.password === '' && url.search === '' && url.hash === '';
  return isPlain && ['http:', 'https:'].includes(url.protocol) ? url.href.replace(/\/+$/u, '') : null;
});

/** Reads the sidecar's configuration from the environment, like `readRelayConfig`. */
export function readSidecarConfig(environment: Environment): ConfigResult<SidecarConfig> {
  const env = new EnvironmentReader(environment, {
    prefix: 'SIDECAR_',
    defaults: SIDECAR_DEFAULTS,
    secrets: ['SIDECAR_TOKEN'],
  });
  const token = env.read('SIDECAR_TOKEN', null, toToken);
  const config: SidecarConfig = {
    listen: env.read(
      'SIDECAR_LISTEN',
      [],
      toInternalEndpoints,
      token === null ? LISTEN_WITHOUT_TOKEN : LISTEN_WITH_TOKEN,
    ),
    token,
    usageDatabasePath: env.read('SIDECAR_USAGE_DB', '', (text) => text),
    snapshots: {
      directory: env.read('SIDECAR_SNAPSHOT_DIR', '', (text) => text),
      intervalMs: env.read('SIDECAR_SNAPSHOT_EVERY', 0, toSnapshotIntervalMs),
      keep: env.read('SIDECAR_SNAPSHOT_KEEP', 0, toSnapshotCount),
    },
    relayStatusUrl: env.read('SIDECAR_RELAY_STATUS', '', toBaseUrl),
    logLevel: env.read('SIDECAR_LOG_LEVEL', 'silent', toLogLevel),
  };
  const { errors } = env;
  const required = (variable: keyof typeof SIDECAR_DEFAULTS, isMissing: boolean, accepted: string): void => {
    if (isMissing) env.rejectEmpty(variable, accepted, 'the sidecar needs it');
  };
  const { snapshots } = config;
  required('SIDECAR_LISTEN', config.listen.length === 0, 'an endpoint like tcp:4004');
  required('SIDECAR_USAGE_DB', config.usageDatabasePath === '', "the path of the relay's RELAY_USAGE_DB");
  required('SIDECAR_SNAPSHOT_DIR', snapshots.directory === '', 'the path of a directory for snapshots');
  required('SIDECAR_SNAPSHOT_EVERY', snapshots.intervalMs === 0, INTERVAL_GRAMMAR);
  required('SIDECAR_SNAPSHOT_KEEP', snapshots.keep === 0, SNAPSHOT_COUNT_GRAMMAR);
  required('SIDECAR_RELAY_STATUS', config.relayStatusUrl === '', URL_GRAMMAR);
  const { warnings, settings } = env;
  if (errors.length > 0) return { kind: 'errors', errors, warnings, settings };
  const isCompose = environment[COMPOSE_MARKER] !== undefined;
  return {
    kind: 'ok',
    config,
    warnings: [...warnings, ...findSecurityWarnings(config, isCompose)],
    settings,
  };
}

const SHORT_TOKEN = `SIDECAR_TOKEN has fewer than ${MIN_SAFE_TOKEN_LENGTH} characters and may be guessed`;

const NO_TOKEN =
  'SIDECAR_TOKEN is not set: anyone who can reach SIDECAR_LISTEN can read the usage records; set a token unless only you have access';

/** @param isCompose docker-compose.yml publishes the port on the loopback interface of the host only */
function findSecurityWarnings({ token, listen }: SidecarConfig, isCompose: boolean): ConfigWarning[] {
  const isOpen = listen.some((endpoint) => endpoint.kind === 'tcp' && !isLoopback(endpoint.interface));
  const isShort = token !== null && token.length < MIN_SAFE_TOKEN_LENGTH;
  if (isShort) return [{ event: 'insecure_setting', message: SHORT_TOKEN }];
  return isOpen && token === null && !isCompose ? [{ event: 'insecure_setting', message: NO_TOKEN }] : [];
}

function isLoopback(address: string | null): boolean {
  return address === '::1' || (address?.startsWith('127.') ?? false);
}
