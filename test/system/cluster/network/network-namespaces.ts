import { spawnSync } from 'node:child_process';
import { findProgram } from '../../../support/programs.ts';

/**
 * Documentation addresses (RFC 5737), which exist in these network namespaces only: a /30 network for each member,
 * one service address, which is routed to a relay for each client, and the router's own address.
 */
const MEMBER_NETWORK = '192.0.2.';
export const SERVICE_ADDRESS = '203.0.113.1';
export const ROUTER_ADDRESS = '198.51.100.1';

/** Routing tables below this number may be in use by the system. */
const FIRST_TABLE = 1000;

/**
 * Priorities of the rules that drop packets and of those that route clients to relays. The first matching
 * rule counts.
 */
const DROP_RULE = ['pref', '100'];
const ROUTE_RULE = ['pref', '200'];

let networks = 0;

/** The reason to skip tests that need network namespaces; false if they can be created. */
export function skipWithoutNetworkNamespaces(): string | false {
  if (findProgram('ip') === null) return 'no "ip": install the Debian package iproute2';
  const name = `relay-${process.pid}-try`;
  const rejection =
    ip('netns', 'add', name) ?? ip('-n', name, 'rule', 'add', 'from', '192.0.2.2', 'blackhole');
  ip('netns', 'delete', name);
  return rejection === null ? false : `no network namespaces (they need root): ${rejection}`;
}

/**
 * A network namespace for each member, and one for a router between them, which can silently drop the packets between
 * any two members, as if a cable were cut.
 */
export class NetworkNamespaces implements Disposable {
  readonly #members: readonly string[];
  readonly #prefix: string;
  readonly #created: string[] = [];
  readonly #dropRules = new Set<string>();
  /** Relays by the clients that are routed to them. */
  readonly #routes = new Map<string, string>();
  /** Relays that have `SERVICE_ADDRESS`. */
  readonly #serviceHosts = new Set<string>();

  /** @throws if network namespaces cannot be created: call `skipWithoutNetworkNamespaces` first */
  constructor(members: readonly string[]) {
    networks += 1;
    this.#prefix = `relay-${process.pid}-${networks}`;
    this.#members = members;
    try {
      this.#build();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** A command that runs a program in the namespace of a member; null: of the router. */
  commandPrefix(member: string | null): readonly string[] {
    return [findProgram('ip') ?? 'ip', 'netns', 'exec', this.#nameOf(member)];
  }

  addressOf(member: string): string {
    return `${MEMBER_NETWORK}${4 * this.#indexOf(member) + 2}`;
  }

  /** From now on, connections of `client` to `SERVICE_ADDRESS` go to this relay. */
  route(client: string, relay: string): void {
    if (!this.#serviceHosts.has(relay)) {
      must('-n', this.#nameOf(relay), 'address', 'add', `${SERVICE_ADDRESS}/32`, 'dev', 'lo');
      this.#serviceHosts.add(relay);
    }
    const previous = this.#routes.get(client);
    const rule = ['from', this.addressOf(client), 'to', SERVICE_ADDRESS, ...ROUTE_RULE, 'lookup'];
    if (previous !== undefined) this.#rule('delete', [...rule, this.#tableOf(previous)]);
    this.#rule('add', [...rule, this.#tableOf(relay)]);
    this.#routes.set(client, relay);
  }

  /** Drops all packets from one member to another, but not the packets in the other direction. */
  dropOneWay(from: string, to: string): void {
    this.#drop(['from', this.addressOf(from), 'to', this.addressOf(to)]);
  }

  /** Drops all packets between two members, in both directions. */
  partition(one: string, other: string): void {
    this.dropOneWay(one, other);
    this.dropOneWay(other, one);
  }

  /** Drops all packets from and to a member. */
  isolate(member: string): void {
    this.#drop(['iif', this.#portOf(member)]);
    this.#drop(['to', this.addressOf(member)]);
    for (const [client, relay] of this.#routes) {
      if (relay === member) this.#drop(['from', this.addressOf(client), 'to', SERVICE_ADDRESS]);
    }
  }

  /** Stops dropping packets. */
  heal(): void {
    for (const rule of this.#dropRules) this.#rule('delete', [...rule.split(' '), ...DROP_RULE, 'blackhole']);
    this.#dropRules.clear();
  }

  /**
   * Programs that still run in a namespace lose their network. The interfaces are deleted with the
   * namespaces.
   */
  [Symbol.dispose](): void {
    for (const name of this.#created) ip('netns', 'delete', name);
  }

  #build(): void {
    for (const member of [null, ...this.#members]) {
      const name = this.#nameOf(member);
      must('netns', 'add', name);
      this.#created.push(name);
    }
    const router = this.#nameOf(null);
    must('netns', 'exec', router, 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
    batch(router, [
      'link set lo up',
      `address add ${ROUTER_ADDRESS}/32 dev lo`,
      ...this.#members.flatMap((member) => {
        const port = this.#portOf(member);
        return [
          `link add ${port} type veth peer name uplink netns ${this.#nameOf(member)}`,
          `address add ${this.#gatewayOf(member)}/30 dev ${port}`,
          `link set ${port} up`,
          `route add ${SERVICE_ADDRESS} via ${this.addressOf(member)} dev ${port} table ${this.#tableOf(member)}`,
        ];
      }),
    ]);
    for (const member of this.#members) {
      batch(this.#nameOf(member), [
        'link set lo up',
        `address add ${this.addressOf(member)}/30 dev uplink`,
        'link set uplink up',
        `route add default via ${this.#gatewayOf(member)}`,
      ]);
    }
  }

  #drop(selector: readonly string[]): void {
    const rule = selector.join(' ');
    if (this.#dropRules.has(rule)) return;
    this.#rule('add', [...selector, ...DROP_RULE, 'blackhole']);
    this.#dropRules.add(rule);
  }

  #rule(command: 'add' | 'delete', rule: readonly string[]): void {
    must('-n', this.#nameOf(null), 'rule', command, ...rule);
  }

  #indexOf(member: string): number {
    const index = this.#members.indexOf(member);
    if (index < 0) throw new Error(`unknown member: ${member}`);
    return index;
  }

  #nameOf(member: string | null): string {
    return member === null ? `${this.#prefix}-router` : `${this.#prefix}-${member}`;
  }

  #gatewayOf(member: string): string {
    return `${MEMBER_NETWORK}${4 * this.#indexOf(member) + 1}`;
  }

  #portOf(member: string): string {
    return `port${this.#indexOf(member)}`;
  }

  #tableOf(member: string): string {
    return String(FIRST_TABLE + this.#indexOf(member));
  }
}

/** Runs `ip`. Returns the error message, or null. */
function ip(...args: readonly string[]): string | null {
  return ipWithInput(args, '');
}

function ipWithInput(args: readonly string[], input: string): string | null {
  const { status, stderr } = spawnSync(findProgram('ip') ?? 'ip', args, { encoding: 'utf8', input });
  return status === 0 ? null : `ip ${args.join(' ')}: ${stderr.trim()}`;
}

function must(...args: readonly string[]): void {
  const rejection = ip(...args);
  if (rejection !== null) throw new Error(rejection);
}

/** Runs commands of `ip` in a namespace, in one process: dozens of them would delay the tests that run beside this one. */
function batch(namespace: string, commands: readonly string[]): void {
  const rejection = ipWithInput(['-n', namespace, '-batch', '-'], `${commands.join('\n')}\n`);
  if (rejection !== null) throw new Error(rejection);
}
