import { socketFamily } from './endpoint.ts';
import type { EnvironmentReader } from './environment.ts';
import type { RELAY_DEFAULTS, RelayConfig } from './relay-config.ts';

type Variable = keyof typeof RELAY_DEFAULTS;

type Reader = Pick<EnvironmentReader<Variable>, 'hasError' | 'isChanged' | 'warnUnused'>;

/** Adds a warning for each setting that other settings make useless. Settings of clusters have their own. */
export function warnAboutUnusedSettings(env: Reader, config: RelayConfig): void {
  const { quota, limits, usage } = config;
  if (!env.isChanged('RELAY_QUOTA')) {
    env.warnUnused('RELAY_QUOTA_RESET_DAY', 'RELAY_QUOTA is not set');
    env.warnUnused('RELAY_QUOTA_COUNTS', 'RELAY_QUOTA is not set');
    env.warnUnused('RELAY_QUOTA_STATE', 'RELAY_QUOTA is not set');
    env.warnUnused('RELAY_QUOTA_GRACE', 'RELAY_QUOTA is not set');
  }
  if (quota?.period === 'day') env.warnUnused('RELAY_QUOTA_RESET_DAY', 'RELAY_QUOTA is per day');
  if (usage.databasePath === null && !env.hasError('RELAY_USAGE_DB'))
    env.warnUnused('RELAY_USAGE_RETENTION', 'there is no usage database (RELAY_USAGE_DB)');
  const { maxConnections, maxWaiting, connectionsPerAddress } = limits;
  if (isAbove(maxWaiting, maxConnections))
    env.warnUnused('RELAY_MAX_WAITING', 'it is above RELAY_MAX_CONNECTIONS');
  if (isAbove(connectionsPerAddress, maxConnections))
    env.warnUnused('RELAY_MAX_CONNECTIONS_PER_ADDRESS', 'it is above RELAY_MAX_CONNECTIONS');
  if (isAbove(limits.pairBytesPerSecond, limits.totalBytesPerSecond))
    env.warnUnused('RELAY_PAIR_RATE', 'it is above RELAY_TOTAL_RATE');
  warnAboutUnusedProxies(env, config);
}

function isAbove(limit: number | 'auto' | null, other: number | 'auto' | null): boolean {
  return typeof limit === 'number' && typeof other === 'number' && limit > other;
}

function warnAboutUnusedProxies(env: Reader, { trustedProxies, listen }: RelayConfig): void {
  if (env.hasError('RELAY_LISTEN') || env.hasError('RELAY_WEBSOCKET_LISTEN')) return;
  const families = new Set([...listen.raw, ...listen.websocket].map(socketFamily));
  const kinds = new Set(trustedProxies.map(({ kind }) => kind));
  // Proxies behind a trusted proxy at a unix socket count, too.
  if (!families.has('tcp') && kinds.has('network') && !kinds.has('unix'))
    env.warnUnused('RELAY_TRUSTED_PROXIES', 'all endpoints for clients are unix sockets; add unix to it');
  if (!families.has('unix') && kinds.has('unix') && !kinds.has('network'))
    env.warnUnused('RELAY_TRUSTED_PROXIES', 'no endpoint for clients is a unix socket');
}
