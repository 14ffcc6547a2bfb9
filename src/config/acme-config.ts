import { dirname, join } from 'node:path';
import { formatEndpoint } from './endpoint.ts';
import type { Endpoint, TcpEndpoint } from './endpoint.ts';
import { InvalidValue } from './environment.ts';
import type { EnvironmentReader } from './environment.ts';
import { parser } from './values.ts';

/** How to get a certificate from a certificate authority (CA) by ACME (RFC 8555). */
export interface AcmeConfig {
  /** The names in the certificate, in lower case, at least one. */
  readonly domains: readonly string[];
  /** Null: the CA gets no address. */
  readonly email: string | null;
  /** URL of the CA's directory. */
  readonly directoryUrl: string;
  /** Directory for the account key, the certificate and its key. */
  readonly statePath: string;
}

/** All variables with their defaults. */
export const ACME_DEFAULTS = {
  RELAY_ACME_DOMAIN: '',
  RELAY_ACME_EMAIL: '',
  RELAY_ACME_AGREE: '',
  RELAY_ACME_DIRECTORY: 'https://acme-v02.api.letsencrypt.org/directory',
  RELAY_ACME_STATE: '',
} as const;

type Variable = keyof typeof ACME_DEFAULTS;

type ListenVariable = 'RELAY_LISTEN' | 'RELAY_WEBSOCKET_LISTEN';

type Reader = Pick<
  EnvironmentReader<Variable | ListenVariable>,
  'read' | 'rejectEmpty' | 'isChanged' | 'hasError' | 'errors' | 'warnUnused'
>;

/** The port of `https://` and `wss://`, the only one to which CAs connect for TLS-ALPN-01 (RFC 8737). */
const HTTPS_PORT = 443;

/** The listener that is added if no endpoint uses the certificate. */
const DEFAULT_ENDPOINT: TcpEndpoint = {
  kind: 'tcp',
  port: HTTPS_PORT,
  interface: null,
  backlog: null,
  tls: 'acme',
};

/** Maximum of names in a certificate of Let's Encrypt. */
const MAX_DOMAINS = 100;

const DOMAIN_GRAMMAR =
  'names like relay.example.org, separated by blanks or commas; this host must be reachable under each of them on port 443';

/** A label of a host name (RFC 1123, section 2.1). */
const LABEL = /^(?!-)[a-z0-9-]{1,63}(?<!-)$/u;

const toEmail = parser('an address like operator@example.org, or empty', (text) =>
  text.length <= 254 && /^[^\s@,;:<>?&"]+@[^\s@,;:<>?&"]+$/u.test(text) ? text : null,
);

const toAgreement = parser('true', (text) => (text === 'true' ? true : null));

const toDirectoryUrl = parser(
  "the https:// URL of the CA's ACME directory, like https://acme-staging-v02.api.letsencrypt.org/directory for tests",
  (text) => {
    const url = URL.parse(text);
    return url?.protocol === 'https:' && url.username + url.password === '' ? url.href : null;
  },
);

/**
 * Returns null without a domain. The other variables then have no effect.
 *
 * @param databasePath of the usage database, beside which the state is kept by default
 */
export function readAcmeConfig(env: Reader, databasePath: string | null): AcmeConfig | null {
  const domains = env.read('RELAY_ACME_DOMAIN', null, toDomains);
  const email = env.read('RELAY_ACME_EMAIL', null, toEmail);
  const agreed = env.read('RELAY_ACME_AGREE', false, toAgreement);
  const directoryUrl = env.read('RELAY_ACME_DIRECTORY', null, toDirectoryUrl);
  const defaultPath = databasePath === null ? null : join(dirname(databasePath), 'acme');
  const statePath = env.read('RELAY_ACME_STATE', defaultPath, (text) => text);
  if (domains === null) {
    warnAboutUnusedSettings(env);
    return null;
  }
  if (!agreed) env.rejectEmpty('RELAY_ACME_AGREE', 'true', termsProblem(directoryUrl));
  if (directoryUrl === null)
    env.rejectEmpty('RELAY_ACME_DIRECTORY', 'an https:// URL', 'RELAY_ACME_DOMAIN needs a CA');
  if (statePath === null) {
    const problem =
      'the certificate must survive restarts, and there is no usage database to store it beside';
    env.rejectEmpty('RELAY_ACME_STATE', 'the path of a directory that the relay may write', problem);
  }
  return directoryUrl === null || statePath === null ? null : { domains, email, directoryUrl, statePath };
}

/**
 * Rejects endpoints that need a certificate by ACME if there will be none. Returns the listener to add if there
 * will be one that no endpoint uses.
 */
export function checkAcmeEndpoints(
  env: Reader,
  acme: AcmeConfig | null,
  listen: Readonly<Record<ListenVariable, readonly Endpoint[]>>,
): TcpEndpoint | null {
  const endpoints = Object.values(listen).flat();
  const hasDomain = env.isChanged('RELAY_ACME_DOMAIN');
  for (const variable of ['RELAY_LISTEN', 'RELAY_WEBSOCKET_LISTEN'] as const) {
    const found = listen[variable].find(usesAcme);
    if (found === undefined || hasDomain || env.hasError(variable)) continue;
    env.errors.push({
      variable,
      value: formatEndpoint(found),
      problem: 'it names no key and no certificate, and RELAY_ACME_DOMAIN is not set',
      accepted: 'privateKey=PATH:certKey=PATH in it, or RELAY_ACME_DOMAIN for a certificate by ACME',
    });
  }
  if (acme === null || endpoints.some(usesAcme)) return null;
  const taken = endpoints.find((endpoint) => endpoint.kind === 'tcp' && endpoint.port === HTTPS_PORT);
  if (taken === undefined) return DEFAULT_ENDPOINT;
  env.errors.push({
    variable: 'RELAY_ACME_DOMAIN',
    value: acme.domains.join(' '),
    problem: `no endpoint uses the certificate, and another one, ${formatEndpoint(taken)}, has port ${HTTPS_PORT}`,
    accepted: `ssl:${HTTPS_PORT} in RELAY_LISTEN, without privateKey, in its place`,
  });
  return null;
}

function usesAcme(endpoint: Endpoint): boolean {
  return endpoint.kind !== 'unix' && endpoint.tls === 'acme';
}

function termsProblem(directoryUrl: string | null): string {
  const terms =
    directoryUrl !== null && new URL(directoryUrl).hostname.endsWith('.letsencrypt.org')
      ? "the terms of Let's Encrypt, https://letsencrypt.org/repository/"
      : `the terms of the CA, which ${directoryUrl ?? 'its directory'} names as termsOfService`;
  return `RELAY_ACME_DOMAIN needs your agreement to ${terms}`;
}

function warnAboutUnusedSettings(env: Reader): void {
  if (env.isChanged('RELAY_ACME_DOMAIN')) return;
  for (const variable of ['RELAY_ACME_EMAIL', 'RELAY_ACME_AGREE', 'RELAY_ACME_STATE'] as const)
    env.warnUnused(variable, 'RELAY_ACME_DOMAIN is not set');
}

/** Wildcards and IP addresses are rejected: a listener can't prove the control of a wildcard. */
function toDomains(text: string): string[] {
  const domains = [...new Set(text.toLowerCase().split(/[\s,]+/u))].filter((name) => name !== '');
  for (const name of domains) {
    const labels = name.split('.');
    const isAddress = /^\d+$/u.test(labels.at(-1) ?? '');
    if (isAddress || name.length > 253 || labels.length < 2 || !labels.every((label) => LABEL.test(label)))
      throw new InvalidValue(DOMAIN_GRAMMAR, `"${name}" is not a name for a certificate by ACME`);
  }
  if (domains.length > 0 && domains.length <= MAX_DOMAINS) return domains;
  throw new InvalidValue(
    DOMAIN_GRAMMAR,
    `there are ${domains.length} names; 1 to ${MAX_DOMAINS} are possible`,
  );
}
