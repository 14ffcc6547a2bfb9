import { isIP } from 'node:net';
import type { TcpEndpoint } from './endpoint.ts';
import { isHost } from './endpoint.ts';
import { CidrError, parseCidrs } from './trusted-proxies.ts';
import type { Cidr } from './trusted-proxies.ts';
import { InvalidValue } from './environment.ts';
import type { EnvironmentReader } from './environment.ts';
import { toInternalEndpoints } from './values.ts';

/** The cluster that this relay belongs to. */
export interface ClusterConfig {
  /** URL of the coordinator, with its password. */
  readonly url: string;
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

type Reader = Pick<EnvironmentReader<Variable>, 'read' | 'addError' | 'isSet' | 'warnings'>;

/** Returns null without a cluster. Without a coordinator the other variables have no effect and are not read. */
export function readClusterConfig(env: Reader): ClusterConfig | null {
  const url = env.read('RELAY_CLUSTER_URL', null, toRedisUrl);
  if (url === null) {
    warnAboutUnusedSettings(env);
    return null;
  }
  const listen = env.read('RELAY_CLUSTER_LISTEN', null, toTcpEndpoint);
  const advertise = env.read('RELAY_CLUSTER_ADVERTISE', null, toAdvertisedAddress);
  const networks = env.read('RELAY_CLUSTER_NETWORKS', [], toNetworks);
  const secret = env.read('RELAY_CLUSTER_SECRET', null, toSecret);
  const tls = env.read('RELAY_CLUSTER_TLS', false, toBoolean);
  if (listen === null)
    env.addError('RELAY_CLUSTER_LISTEN', '', new InvalidValue('an endpoint like tcp:4005', REQUIRED_PROBLEM));
  if (secret === null)
    env.addError('RELAY_CLUSTER_SECRET', '', new InvalidValue(SECRET_GRAMMAR, REQUIRED_PROBLEM));
  return listen === null || secret === null ? null : { url, listen, advertise, networks, secret, tls };
}

const REQUIRED_PROBLEM = 'it is required because RELAY_CLUSTER_URL is set';

/** These variables are only set for a cluster. The listener may be set for all relays, so it causes no warning. */
function warnAboutUnusedSettings(env: Reader): void {
  if (env.isSet('RELAY_CLUSTER_URL')) return;
  for (const variable of [
    'RELAY_CLUSTER_ADVERTISE',
    'RELAY_CLUSTER_NETWORKS',
    'RELAY_CLUSTER_SECRET',
    'RELAY_CLUSTER_TLS',
  ] as const)
    if (env.isSet(variable))
      env.warnings.push(
        `${variable} has no effect because RELAY_CLUSTER_URL is not set: this relay is in no cluster`,
      );
}

function toRedisUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  const isOurs = url !== null && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== '';
  if (
    !isOurs ||
    !/^(?:\/\d*)?$/u.test(url.pathname) ||
    !isPercentEncoded(url.username) ||
    !isPercentEncoded(url.password)
  )
    throw new InvalidValue(URL_GRAMMAR);
  return text;
}

function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function toTcpEndpoint(text: string): TcpEndpoint {
  const [endpoint, ...others] = toInternalEndpoints(text);
  if (endpoint?.kind === 'tcp' && others.length === 0) return endpoint;
  throw new InvalidValue('one endpoint like tcp:4005 or tcp:4005:interface=10.0.0.7');
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
  if (isIP(text) !== 0 && isHost(text) && !WILDCARD_ADDRESSES.has(text)) return { host: text, port: null };
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/u.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = digits === undefined ? null : Number(digits);
  const isFit = host !== undefined && isHost(host) && (bracketed === undefined || isIP(bracketed) === 6);
  if (
    host === undefined ||
    !isFit ||
    WILDCARD_ADDRESSES.has(host) ||
    (port !== null && (port === 0 || port > 65_535))
  )
    throw new InvalidValue(ADVERTISE_GRAMMAR);
  return { host, port };
}
