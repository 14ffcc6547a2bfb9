import type { ChallengeType, OrderFailure } from './order-messages.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/**
 * First and longest time to the next order after failures that another order may repeat at once, in
 * milliseconds. Let's Encrypt accepts 5 failed checks of a name per hour.
 */
const REJECTED_MS = { first: 15 * MINUTE_MS, longest: 12 * HOUR_MS } as const;

/** The same after failures of the network or of the CA itself. */
const TEMPORARY_MS = { first: MINUTE_MS, longest: HOUR_MS } as const;

/** A Retry-After of more is ignored. The limits of Let's Encrypt are per week or shorter. */
const MAX_RETRY_AFTER_MS = 8 * DAY_MS;

/** Random share that is added to each time, so that many relays do not order together. */
const JITTER = 0.25;

/** Problems that are not caused by the order. */
const TEMPORARY_PROBLEMS: ReadonlySet<string | null> = new Set([null, 'badNonce', 'serverInternal', 'state']);

/** Problems of a check of a domain, which another way to check it may not have. */
const CHECK_PROBLEMS: ReadonlySet<string | null> = new Set([
  'connection',
  'dns',
  'incorrectResponse',
  'tls',
  'unauthorized',
]);

/**
 * Time of the next order after `failures` failed ones, in milliseconds since the epoch. Null: the process
 * crashed during the order.
 *
 * @param random from 0 to 1
 */
export function nextOrderAt(
  failures: number,
  failure: OrderFailure | null,
  nowMs: number,
  random: number,
): number {
  const isTemporary = failure !== null && TEMPORARY_PROBLEMS.has(failure.problem);
  const { first, longest } = isTemporary ? TEMPORARY_MS : REJECTED_MS;
  const delayMs = Math.min(first * 2 ** (failures - 1), longest);
  const retryAfterMs = (failure?.retryAtMs ?? nowMs) - nowMs;
  const waitMs = Math.max(delayMs, Math.min(retryAfterMs, MAX_RETRY_AFTER_MS));
  return Math.round(nowMs + waitMs + delayMs * JITTER * random);
}

/** How the order after a failed one proves the control of the domains. */
export function nextChallengeType(
  current: ChallengeType,
  { problem }: OrderFailure,
  hasHttpPort: boolean,
): ChallengeType {
  if (!hasHttpPort) return 'tls-alpn-01';
  if (!CHECK_PROBLEMS.has(problem)) return current;
  return current === 'http-01' ? 'tls-alpn-01' : 'http-01';
}

const PORTS: Readonly<Record<ChallengeType, number>> = { 'tls-alpn-01': 443, 'http-01': 80 };

/** What the operator can check, by problem (RFC 8555, section 6.7). */
const ADVICE: Readonly<Record<string, string>> = {
  badNonce: 'the CA was busy; nothing to do',
  caa: 'a CAA record in the DNS forbids this CA: add one that allows it',
  connection: 'the CA could not connect: open port PORT to the internet and forward it to the relay',
  dns: 'the CA found no address: check the A and AAAA records of the domain',
  externalAccountRequired:
    'this CA needs an account that was created before, which the relay does not support: use another CA',
  incorrectResponse:
    'another program answered on port PORT: check that the A and AAAA records lead to this relay',
  invalidContact: 'check RELAY_ACME_EMAIL',
  rateLimited: "the CA's limit is used up: the relay waits",
  rejectedIdentifier: 'the CA does not issue certificates for this name: check RELAY_ACME_DOMAIN',
  serverInternal: 'the CA has a problem; nothing to do',
  state: 'the certificate could not be saved in RELAY_ACME_STATE: check its free space and mode',
  tls: 'another program answered on port PORT: check that the A and AAAA records lead to this relay, and that no proxy ends TLS before it',
  unauthorized:
    'another program answered on port PORT: check that the A and AAAA records lead to this relay, and that no proxy ends TLS before it',
  unsupportedContact: 'check RELAY_ACME_EMAIL',
  unsupportedIdentifier: 'the CA does not issue certificates for this name: check RELAY_ACME_DOMAIN',
  userActionRequired: 'the CA has new terms: open the address in its text',
};

const NO_ANSWER =
  'no certificate from the CA: check that this machine can reach RELAY_ACME_DIRECTORY and trusts its certificate';

/** A sentence for the operator. */
export function adviceFor({ problem }: OrderFailure, challengeType: ChallengeType): string {
  if (problem === null) return NO_ANSWER;
  const advice = ADVICE[problem] ?? "see the CA's text";
  return advice.replace('PORT', String(PORTS[challengeType]));
}
