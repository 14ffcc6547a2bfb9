import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { LeaseKeys, encodeOwner } from '../../../../src/cluster/lease-store.ts';
import { parseHandshake } from '../../../../src/protocol/handshake.ts';
import { handshake } from '../../../support/bytes.ts';
import { Program } from '../../../support/programs.ts';
import { SECRET, UNTRUSTED } from './network-cluster.ts';
import type { NetworkCluster } from './network-cluster.ts';
import type { NetworkRelay } from './network-relay.ts';

const SCRIPT = join(import.meta.dirname, 'untrusted-program.ts');

const FIRST_PORT = 5000;

/** One line of output of `untrusted-program.ts`. */
interface PeerReport {
  readonly sender?: string;
  readonly sent?: string;
  /** Received text; of many connections, the number of connections by received text. */
  readonly received?: string | Readonly<Record<string, number>>;
}

/** A host that can connect to the relays' cluster ports but does not have the secret. */
export class UntrustedPeer {
  /** `HOST:PORT` at which it listens, in the form of an owner's address. */
  readonly address: string;
  readonly #program: Program;

  constructor(program: Program, address: string) {
    this.#program = program;
    this.address = address;
  }

  /** Resolves when its output matches. */
  async untilReported(pattern: RegExp): Promise<void> {
    await this.#program.waitForOutput(pattern);
  }

  /** Everything that it has reported so far. */
  get reports(): readonly PeerReport[] {
    const lines = this.#program.stdout.split('\n').filter((line) => line.endsWith('}'));
    return lines.map((line): unknown => JSON.parse(line)).filter(isPeerReport);
  }
}

/** The untrusted peers of a network cluster. They are closed with the test. */
export class UntrustedPeers {
  readonly #context: TestContext;
  readonly #cluster: NetworkCluster;
  readonly #keys = new LeaseKeys(SECRET);
  #port = FIRST_PORT;

  constructor(context: TestContext, cluster: NetworkCluster) {
    this.#context = context;
    this.#cluster = cluster;
  }

  /**
   * Connects `count` times to a relay's cluster port and sends `text` on each connection. Resolves when all
   * are connected or closed.
   */
  async connectMany(relay: NetworkRelay, count: number, text: string): Promise<UntrustedPeer> {
    const peer = this.#start('connect-many', ...splitAddress(relay.address), String(count), text);
    await peer.untilReported(/"connected"|"received"/u);
    return peer;
  }

  /** Forwards connections to a relay's cluster port, and reports all bytes. */
  eavesdropper(relay: NetworkRelay): Promise<UntrustedPeer> {
    return this.#serve('eavesdropper', ...splitAddress(relay.address));
  }

  /** Poses as a relay, and sends one of the texts after each message that it receives. */
  impostor(...texts: readonly string[]): Promise<UntrustedPeer> {
    return this.#serve('impostor', ...texts);
  }

  /** Makes the coordinator return this peer as the owner of a token. */
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
    const peer = this.#start(role, host, String(this.#port), ...args);
    await peer.untilReported(/"listening"/u);
    return peer;
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
