import { isIPv6 } from 'node:net';
import { parseHostPort } from './endpoint.ts';
import type { TcpEndpoint } from './endpoint.ts';
import { CidrError, parseCidrs } from './trusted-proxies.ts';
import type { Cidr } from './trusted-proxies.ts';
import { InvalidValue } from './environment.ts';
import type { EnvironmentReader } from './environment.ts';
import { toInternalEndpoints } from './values.ts';

/** The coordinator's address, and its login. */
export interface CoordinatorAddress {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** The arguments of `AUTH`; empty: no login. */
  readonly credentials: readonly string[];
  readonly database: number;
}

/** The cluster that this relay belongs to. */
export interface ClusterConfig {
  readonly coordinator: CoordinatorAddress;
  /** The listener for other relays. */
  readonly listen: TcpEndpoint;
  /** Address for other relays; a port of null is that of `listen`. Null: this host's own address. */
  readonly advertise: { readonly host: string; readonly port: number | null } | null;
  /** Networks of other relays; empty: any network. */
  readonly networks: readonly Cidr[];
  readonly secret: string;
  /** Links are encrypted. */
  readonly tls: boolean;
}

/** All variables with their defaults. */
export const CLUSTER_DEFAULTS = {
  RELAY_CLUSTER_URL: '',
  RELAY_CLUSTER_LISTEN: 'tcp:4005',
  RELAY_CLUSTER_ADVERTISE: '',
  RELAY_CLUSTER_NETWORKS: '',
  RELAY_CLUSTER_SECRET: '',
  RELAY_CLUSTER_TLS: '',
} as const;

type Variable = keyof typeof CLUSTER_DEFAULTS;

export const CLUSTER_SECRETS = ['RELAY_CLUSTER_URL', 'RELAY_CLUSTER_SECRET'] as const;

const DEFAULT_COORDINATOR_PORT = 6379;

/** Each guess needs a connection, so a secret of this length can't be guessed. */
const MIN_SECRET_LENGTH = 16;

const URL_GRAMMAR =
  'redis://HOST:6379, redis://:PASSWORD@HOST:6379 or rediss://USER:PASSWORD@HOST:6379/1, of Valkey or Redis 7; ' +
  'in a password %25 stands for %, %2F for /, %23 for #, %3F for ? and %40 for @';

const SECRET_GRAMMAR = `the same ${MIN_SECRET_LENGTH} characters or more on all relays of the cluster, for example from "openssl rand -hex 32"`;

const ADVERTISE_GRAMMAR =
  'an address like 10.0.0.7, 10.0.0.7:4005, relay-1.example.org:4005 or [fd00::7]:4005';

const NETWORKS_GRAMMAR =
  'addresses and networks like 10.0.0.0/24 or fd00::/64, separated by blanks or commas';

/** Addresses for listening that can't be used to connect. */
export const WILDCARD_ADDRESSES: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

type Reader = Pick<EnvironmentReader<Variable>, 'read' | 'rejectEmpty' | 'isChanged' | 'warnUnused'>;

/** Returns null without a cluster. Without a coordinator the other variables have no effect and are not read. */
export function readClusterConfig(env: Reader): ClusterConfig | null {
  const coordinator = env.read('RELAY_CLUSTER_URL', null, parseCoordinatorUrl);
  if (coordinator === null) {
    warnAboutUnusedSettings(env);
    return null;
  }
  const listen = env.read('RELAY_CLUSTER_LISTEN', null, toTcpEndpoint);
  const advertise = env.read('RELAY_CLUSTER_ADVERTISE', null, toAdvertisedAddress);
  const networks = env.read('RELAY_CLUSTER_NETWORKS', [], toNetworks);
  const secret = env.read('RELAY_CLUSTER_SECRET', null, toSecret);
  const tls = env.read('RELAY_CLUSTER_TLS', false, toBoolean);
  if (listen === null) env.rejectEmpty('RELAY_CLUSTER_LISTEN', 'an endpoint like tcp:4005', REQUIRED_PROBLEM);
  if (secret === null) env.rejectEmpty('RELAY_CLUSTER_SECRET', SECRET_GRAMMAR, REQUIRED_PROBLEM);
  return listen === null || secret === null
    ? null
    : { coordinator, listen, advertise, networks, secret, tls };
}

const REQUIRED_PROBLEM = 'it is required because RELAY_CLUSTER_URL is set';

/** These variables are only set for a cluster. The listener may be set for all relays, so it causes no warning. */
function warnAboutUnusedSettings(env: Reader): void {
  if (env.isChanged('RELAY_CLUSTER_URL')) return;
  for (const variable of [
    'RELAY_CLUSTER_ADVERTISE',
    'RELAY_CLUSTER_NETWORKS',
    'RELAY_CLUSTER_SECRET',
    'RELAY_CLUSTER_TLS',
  ] as const)
    env.warnUnused(variable, 'RELAY_CLUSTER_URL is not set: this relay is in no cluster');
}

/**
 * Parses `redis://` and `rediss://`.
 *
 * @throws InvalidValue: Node's own error would contain the URL, and with it the password
 */
export function parseCoordinatorUrl(text: string): CoordinatorAddress {
  const url = URL.parse(text);
  const isOurs = url !== null && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== '';
  if (!isOurs || !/^(?:\/\d*)?$/u.test(url.pathname)) throw new InvalidValue(URL_GRAMMAR);
  const [user, password] = [decodeComponent(url.username), decodeComponent(url.password)];
  return {
    host: url.hostname.replace(/^\[(.*)\]$/u, '$1'),
    port: url.port === '' ? DEFAULT_COORDINATOR_PORT : Number(url.port),
    tls: url.protocol === 'rediss:',
    credentials: user === '' ? [password].filter((one) => one !== '') : [user, password],
    database: Number(url.pathname.slice(1)),
  };
}

function decodeComponent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidValue(URL_GRAMMAR);
  }
}

function toTcpEndpoint(text: string): TcpEndpoint {
  const [endpoint, ...others] = toInternalEndpoints(text);
  if (endpoint?.kind === 'tcp' && others.length === 0) return endpoint;
  throw new InvalidValue('one endpoint like tcp:4005 or 10.0.0.7:4005');
}

function toNetworks(text: string): Cidr[] {
  try {
    const networks = parseCidrs(text);
    if (networks.every(({ kind }) => kind === 'network')) return networks;
  } catch (error) {
    if (error instanceof CidrError) throw new InvalidValue(NETWORKS_GRAMMAR, error.message);
    throw error;
  }
  throw new InvalidValue(NETWORKS_GRAMMAR, 'relays connect by TCP only');
}

function toBoolean(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new InvalidValue('true or false, the same on all relays of the cluster');
}

function toSecret(text: string): string {
  if (text.length >= MIN_SECRET_LENGTH) return text;
  throw new InvalidValue(SECRET_GRAMMAR, 'it is too short');
}

function toAdvertisedAddress(text: string): NonNullable<ClusterConfig['advertise']> {
  const withPort = parseHostPort(text);
  const address = withPort ?? parseHostPort(isIPv6(text) ? `[${text}]:1` : `${text}:1`);
  if (address === null || WILDCARD_ADDRESSES.has(address.host)) throw new InvalidValue(ADVERTISE_GRAMMAR);
  return { host: address.host, port: withPort?.port ?? null };
}
