import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { LeaseKeys, encodeOwner } from '../../../src/cluster/lease-store.ts';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { handshake } from '../../support/bytes.ts';
import { Program } from '../../support/programs.ts';
import { SECRET, UNTRUSTED } from './network-cluster.ts';
import type { NetworkCluster } from './network-cluster.ts';
import type { NetworkRelay } from './network-relay.ts';

const SCRIPT = join(import.meta.dirname, 'untrusted-program.ts');

const FIRST_PORT = 5000;

/** One thing that a stranger tells: see `stranger.ts`. */
interface PeerReport {
  readonly who?: string;
  readonly said?: string;
  /** What it heard; of a crowd, how often what. */
  readonly heard?: string | Readonly<Record<string, number>>;
}

/** Somebody who reaches the relays' cluster ports and has no secret. */
export class UntrustedPeer {
  /** Where it listens, as an owner's address. */
  readonly address: string;
  readonly #program: Program;

  constructor(program: Program, address: string) {
    this.#program = program;
    this.address = address;
  }

  /** Resolves when it has told something like this. */
  async untilReported(pattern: RegExp): Promise<void> {
    await this.#program.waitForOutput(pattern);
  }

  /** Everything that it has told so far. */
  get reports(): readonly PeerReport[] {
    const lines = this.#program.stdout.split('\n').filter((line) => line.endsWith('}'));
    return lines.map((line): unknown => JSON.parse(line)).filter(isPeerReport);
  }
}

/** The strangers of a site, for as long as the test lasts. */
export class UntrustedPeers {
  readonly #context: TestContext;
  readonly #cluster: NetworkCluster;
  readonly #keys = new LeaseKeys(SECRET);
  #port = FIRST_PORT;

  constructor(context: TestContext, site: NetworkCluster) {
    this.#context = context;
    this.#cluster = site;
  }

  /** Connects `count` times to a relay's cluster port, and says `text` each time. Resolves when all are there, or have gone. */
  async connectMany(relay: NetworkRelay, count: number, text: string): Promise<UntrustedPeer> {
    const crowd = this.#start('crowd', ...splitAddress(relay.address), String(count), text);
    await crowd.untilReported(/"connected"|"heard"/u);
    return crowd;
  }

  /** Passes on to a relay's cluster port whoever comes, and listens. */
  listener(relay: NetworkRelay): Promise<UntrustedPeer> {
    return this.#serve('listener', ...splitAddress(relay.address));
  }

  /** Takes itself for a relay, and says one of the texts after the other. */
  impostor(...texts: readonly string[]): Promise<UntrustedPeer> {
    return this.#serve('impostor', ...texts);
  }

  /** Has the coordinator say that a token is a relay's with that address. */
  async acquireLease(token: string, { address }: UntrustedPeer): Promise<void> {
    const line = parseHandshake(Buffer.from(handshake(token)));
    if (line.kind !== 'relay') throw new Error('no token');
    await this.#cluster.coordinator.set(
      this.#keys.forToken(line.token),
      encodeOwner({ id: 'a-relay-that-is-none', address }),
    );
  }

  async #serve(role: string, ...args: readonly string[]): Promise<UntrustedPeer> {
    this.#port += 1;
    const host = this.#cluster.network.addressOf(UNTRUSTED);
    const stranger = this.#start(role, host, String(this.#port), ...args);
    await stranger.untilReported(/"listening"/u);
    return stranger;
  }

  #start(role: string, host: string, port: string, ...args: readonly string[]): UntrustedPeer {
    const command = [process.execPath, SCRIPT, role, host, port, ...args];
    const program = new Program([...this.#cluster.network.commandPrefix(UNTRUSTED), ...command]);
    this.#context.after(() => program[Symbol.asyncDispose]());
    return new UntrustedPeer(program, `${host}:${port}`);
  }
}

function splitAddress(address: string): readonly [host: string, port: string] {
  const [host = '', port = ''] = address.split(':');
  return [host, port];
}

function isPeerReport(value: unknown): value is PeerReport {
  return typeof value === 'object' && value !== null;
}
