import { spawnSync } from 'node:child_process';
import { findProgram } from '../../support/programs.ts';

/**
 * Addresses for documentation (RFC 5737), which exist in our own network namespaces only: a network of four for each
 * member, one address that stands for whichever relay a client is led to, and the middle's own.
 */
const MEMBER_NETWORK = '192.0.2.';
export const SERVICE_ADDRESS = '203.0.113.1';
export const ROUTER_ADDRESS = '198.51.100.1';

/** Routing tables below this one may be the system's. */
const FIRST_TABLE = 1000;

/** Where packets vanish, and where a client is led to its relay: the first of them that fits counts. */
const DROP_RULE = ['pref', '100'];
const ROUTE_RULE = ['pref', '200'];

let networks = 0;

/** Why there can be no such networks here, for a test to be skipped; false where they can be. */
export function skipWithoutNetworkNamespaces(): string | false {
  if (findProgram('ip') === null) return 'no "ip": install the Debian package iproute2';
  const name = `relay-${process.pid}-try`;
  const rejection =
    ip('netns', 'add', name) ?? ip('-n', name, 'rule', 'add', 'from', '192.0.2.2', 'blackhole');
  ip('netns', 'delete', name);
  return rejection === null ? false : `no network namespaces, which take root: ${rejection}`;
}

/**
 * A network namespace for each member, and a router in the middle, where packets between any two can be made to
 * vanish: without a word, as where a cable is cut.
 */
export class NetworkNamespaces implements Disposable {
  readonly #members: readonly string[];
  readonly #prefix: string;
  readonly #made: string[] = [];
  readonly #cuts = new Set<string>();
  /** Relays by the clients that are led to them. */
  readonly #routes = new Map<string, string>();
  /** Those that have `SERVICE_ADDRESS`. */
  readonly #hosts = new Set<string>();

  /** @throws where there can be none: ask `withoutNetworks` before */
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

  /** A command that runs a program as that member; null: in the middle. */
  commandPrefix(member: string | null): readonly string[] {
    return [findProgram('ip') ?? 'ip', 'netns', 'exec', this.#nameOf(member)];
  }

  addressOf(member: string): string {
    return `${MEMBER_NETWORK}${4 * this.#indexOf(member) + 2}`;
  }

  /** Whoever of `client` connects to `SERVICE_ADDRESS` comes to this relay from now on. */
  route(client: string, relay: string): void {
    if (!this.#hosts.has(relay)) {
      must('-n', this.#nameOf(relay), 'address', 'add', `${SERVICE_ADDRESS}/32`, 'dev', 'lo');
      this.#hosts.add(relay);
    }
    const led = this.#routes.get(client);
    const rule = ['from', this.addressOf(client), 'to', SERVICE_ADDRESS, ...ROUTE_RULE, 'lookup'];
    if (led !== undefined) this.#rule('delete', [...rule, this.#tableOf(led)]);
    this.#rule('add', [...rule, this.#tableOf(relay)]);
    this.#routes.set(client, relay);
  }

  /** Nothing that one member sends reaches the other one from now on; what the other one sends still does. */
  dropOneWay(from: string, to: string): void {
    this.#cut(['from', this.addressOf(from), 'to', this.addressOf(to)]);
  }

  /** Nothing gets from one to the other, either way. */
  partition(one: string, other: string): void {
    this.dropOneWay(one, other);
    this.dropOneWay(other, one);
  }

  /** Nothing gets to this member or away from it. */
  isolate(member: string): void {
    this.#cut(['iif', this.#portOf(member)]);
    this.#cut(['to', this.addressOf(member)]);
    for (const [client, relay] of this.#routes) {
      if (relay === member) this.#cut(['from', this.addressOf(client), 'to', SERVICE_ADDRESS]);
    }
  }

  /** Everything that was cut is whole again. */
  heal(): void {
    for (const cut of this.#cuts) this.#rule('delete', [...cut.split(' '), ...DROP_RULE, 'blackhole']);
    this.#cuts.clear();
  }

  /** Whoever still runs in there loses the network. The links go with the namespaces. */
  [Symbol.dispose](): void {
    for (const name of this.#made) ip('netns', 'delete', name);
  }

  #build(): void {
    for (const member of [null, ...this.#members]) {
      const name = this.#nameOf(member);
      must('netns', 'add', name);
      this.#made.push(name);
      must('-n', name, 'link', 'set', 'lo', 'up');
    }
    const middle = ['-n', this.#nameOf(null)];
    must('netns', 'exec', this.#nameOf(null), 'sh', '-c', 'echo 1 >/proc/sys/net/ipv4/ip_forward');
    must(...middle, 'address', 'add', `${ROUTER_ADDRESS}/32`, 'dev', 'lo');
    for (const member of this.#members) {
      const [name, port] = [this.#nameOf(member), this.#portOf(member)];
      const ours = `${MEMBER_NETWORK}${4 * this.#indexOf(member) + 1}`;
      must(...middle, 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'uplink', 'netns', name);
      must(...middle, 'address', 'add', `${ours}/30`, 'dev', port);
      must(...middle, 'link', 'set', port, 'up');
      must('-n', name, 'address', 'add', `${this.addressOf(member)}/30`, 'dev', 'uplink');
      must('-n', name, 'link', 'set', 'uplink', 'up');
      must('-n', name, 'route', 'add', 'default', 'via', ours);
      const table = ['dev', port, 'table', this.#tableOf(member)];
      must(...middle, 'route', 'add', SERVICE_ADDRESS, 'via', this.addressOf(member), ...table);
    }
  }

  #cut(what: readonly string[]): void {
    const cut = what.join(' ');
    if (this.#cuts.has(cut)) return;
    this.#rule('add', [...what, ...DROP_RULE, 'blackhole']);
    this.#cuts.add(cut);
  }

  #rule(command: 'add' | 'delete', rule: readonly string[]): void {
    must('-n', this.#nameOf(null), 'rule', command, ...rule);
  }

  #indexOf(member: string): number {
    const place = this.#members.indexOf(member);
    if (place < 0) throw new Error(`nobody is called ${member}`);
    return place;
  }

  #nameOf(member: string | null): string {
    return member === null ? `${this.#prefix}-middle` : `${this.#prefix}-${member}`;
  }

  #portOf(member: string): string {
    return `port${this.#indexOf(member)}`;
  }

  #tableOf(member: string): string {
    return String(FIRST_TABLE + this.#indexOf(member));
  }
}

/** Returns what is wrong, or null. */
function ip(...args: readonly string[]): string | null {
  const { status, stderr } = spawnSync(findProgram('ip') ?? 'ip', args, { encoding: 'utf8' });
  return status === 0 ? null : `ip ${args.join(' ')}: ${stderr.trim()}`;
}

function must(...args: readonly string[]): void {
  const rejection = ip(...args);
  if (rejection !== null) throw new Error(rejection);
}
