import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KEY_PREFIX } from '../../src/cluster/coordinator-client.ts';
import { LeaseKeys, decodeOwner } from '../../src/cluster/lease-store.ts';
import { parseCoordinatorUrl } from '../../src/config/cluster-config.ts';
import type { Owner } from '../../src/cluster/router.ts';
import { TokenLeases } from '../../src/cluster/token-leases.ts';
import { parseHandshake } from '../../src/protocol/handshake.ts';
import type { Token } from '../../src/protocol/messages.ts';
import type { RedisServer } from './redis.ts';
import { until } from './scratch.ts';

const SECRET = 'a secret of the cluster';

/** Interval of queries, in milliseconds: without a pause they would slow the coordinator down. */
const POLL_MS = 10;

/** A relay does not wait longer than 500 ms for a lease. So many are acquired in that time on a busy machine. */
const ACQUIRED_AT_ONCE = 100;

const keys = new LeaseKeys(SECRET);

/** A different token for each number. */
export function tokenOf(number: number): Token {
  const handshake = parseHandshake(Buffer.from(`please relay ${number.toString(16).padStart(64, '0')}\n`));
  if (handshake.kind !== 'relay') throw new Error(`no token of ${number}`);
  return handshake.token;
}

export function keyOf(token: Token): string {
  return keys.forToken(token);
}

export interface LeaseMemberOptions {
  readonly url: string;
  readonly secret?: string;
  readonly address?: string;
  readonly leaseMs?: number;
}

/** The leases of one relay of a cluster, and the events that it got. */
export class LeaseMember {
  readonly self: Owner;
  readonly leases: TokenLeases;
  readonly lost: { readonly token: Token; readonly owner: Owner }[] = [];
  /** `up`, `secret mismatch`, or the reason why the coordinator is down. */
  readonly notifications: string[] = [];

  constructor(
    context: TestContext,
    number: number,
    { url, secret = SECRET, address, leaseMs = 30_000 }: LeaseMemberOptions,
  ) {
    this.self = { id: randomUUID(), address: address ?? `10.0.0.${number}:4005` };
    this.leases = new TokenLeases({
      coordinator: parseCoordinatorUrl(url),
      secret,
      self: this.self,
      leaseMs,
      events: {
        onLeaseLost: (token, owner) => this.lost.push({ token, owner }),
        onUp: () => this.notifications.push('up'),
        onDown: (code) => this.notifications.push(code),
        onSecretMismatch: () => this.notifications.push('secret mismatch'),
      },
    });
    context.after(() => this.leases.close());
  }

  /** Starts a member, and waits until it is connected to the coordinator. */
  static async start(
    context: TestContext,
    number: number,
    options: LeaseMemberOptions,
  ): Promise<LeaseMember> {
    const member = new LeaseMember(context, number, options);
    await until(() => member.leases.isUp);
    return member;
  }

  /** Starts members 1 and 2, by default at the same coordinator. */
  static async startTwo(
    context: TestContext,
    first: LeaseMemberOptions,
    second = first,
  ): Promise<readonly [LeaseMember, LeaseMember]> {
    return [await LeaseMember.start(context, 1, first), await LeaseMember.start(context, 2, second)];
  }
}

/** The result of a request for a token that the relay owns itself. */
export const SELF = null;

type Admin = Awaited<ReturnType<RedisServer['admin']>>;

/** The owner of a token in the coordinator's database. */
export async function ownerOf(admin: Admin, token: Token): Promise<Owner | null> {
  const value = await admin.get(keyOf(token));
  return value === null ? null : decodeOwner(value);
}

/** Number of leases of all relays. */
export async function countLeases(admin: Admin): Promise<number> {
  const leases = await admin.keys(`${KEY_PREFIX}*`);
  // Relays also write a key to test the coordinator.
  return leases.filter((key) => key.length === KEY_PREFIX.length + 22).length;
}

/** Resolves when the token has this owner in the coordinator's database; null: no owner. */
export async function untilOwned(admin: Admin, token: Token, by: Owner | null): Promise<void> {
  while ((await ownerOf(admin, token))?.id !== by?.id) await sleep(POLL_MS);
}

/** Resolves when the coordinator has at least that many leases. */
export async function untilLeases(admin: Admin, count: number): Promise<void> {
  while ((await countLeases(admin)) < count) await sleep(POLL_MS);
}

/** Acquires that many leases, and returns their tokens. */
export async function acquireMany({ leases }: LeaseMember, count: number): Promise<readonly Token[]> {
  const tokens = Array.from({ length: count }, (_, at) => tokenOf(at));
  for (let at = 0; at < count; at += ACQUIRED_AT_ONCE)
    await Promise.all(tokens.slice(at, at + ACQUIRED_AT_ONCE).map((token) => leases.acquire(token)));
  return tokens;
}
