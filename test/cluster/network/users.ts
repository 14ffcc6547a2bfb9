import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Program, findProgram } from '../../support/programs.ts';
import { PORT } from './network-relay.ts';
import { ROUTER_ADDRESS, SERVICE_ADDRESS } from './network-namespaces.ts';
import type { NetworkNamespaces } from './network-namespaces.ts';

/** Far above what a transfer takes on a busy machine, in milliseconds. */
const TRANSFER_MS = 60_000;

const MAILBOX_PORT = 4000;

/** Members of the network: people who know the relays by one address. */
export const USERS = ['sender', 'receiver'] as const;

/** Why there are no users, for a test to be skipped; false where there are. */
export function skipWithoutWormhole(): string | false {
  if (findProgram('wormhole') === null) return 'no "wormhole": install the Debian package magic-wormhole';
  // Asking the program itself: python3 may be another than the one that Debian's packages are for.
  if (spawnSync('twistd3', ['wormhole-mailbox', '--help']).status === 0) return false;
  return 'no mailbox server: install the Debian package python3-magic-wormhole-mailbox-server';
}

/** A file on its way from one user to another. */
export interface Sending {
  /** Resolves when both programs have ended well and the file that came is the one that was sent. */
  readonly arrived: Promise<void>;
}

/** People with the Python client, who know one address for all relays and can reach each other by that alone. */
export class Users implements AsyncDisposable {
  readonly #network: NetworkNamespaces;
  readonly #directory: string;
  readonly #resources = new AsyncDisposableStack();
  readonly #env: Readonly<Record<string, string | undefined>>;
  #sendings = 0;

  private constructor(network: NetworkNamespaces, directory: string) {
    this.#network = network;
    this.#directory = directory;
    this.#env = { PATH: process.env['PATH'], HOME: directory, LANG: 'C.UTF-8' };
  }

  /** Starts the server where they find each other, in the middle: that is never cut. */
  static async start(network: NetworkNamespaces, directory: string): Promise<Users> {
    const users = new Users(network, directory);
    const listen = `--port=tcp:${MAILBOX_PORT}:interface=${ROUTER_ADDRESS}`;
    const plugin = ['wormhole-mailbox', listen, '--channel-db=:memory:'];
    const mailbox = users.#run(null, directory, 'twistd3', '-n', '--pidfile=', ...plugin);
    await mailbox.waitForOutput(/PrivacyEnhancedSite starting on/u);
    return users;
  }

  /**
   * One user sends another a file of random bytes.
   *
   * @param near the relay that the sender is led to
   * @param far the receiver's
   */
  send(near: string, far: string, bytes: number): Sending {
    this.#sendings += 1;
    const file = `noise-${this.#sendings}.bin`;
    const code = `${this.#sendings}-bluebird-concert`;
    const [outbox, inbox] = ['outbox', 'inbox'].map((name) => join(this.#directory, name));
    if (outbox === undefined || inbox === undefined) throw new Error('no boxes');
    for (const box of [outbox, inbox]) mkdirSync(box, { recursive: true });
    const content = randomBytes(bytes);
    writeFileSync(join(outbox, file), content);
    const [sender, receiver] = USERS;
    this.#network.route(sender, near);
    this.#network.route(receiver, far);
    const relay = `tcp:${SERVICE_ADDRESS}:${PORT}`;
    const urls = ['--relay-url', `ws://${ROUTER_ADDRESS}:${MAILBOX_PORT}/v1`, '--transit-helper', relay];
    const flags = ['--no-listen', '--hide-progress'];
    const programs = [
      this.#run(sender, outbox, 'wormhole', ...urls, 'send', ...flags, '--code', code, file),
      this.#run(receiver, inbox, 'wormhole', ...urls, 'receive', ...flags, '--accept-file', code),
    ];
    const arrived = Promise.all(programs.map((program) => program.succeeds(TRANSFER_MS))).then(() => {
      if (!readFileSync(join(inbox, file)).equals(content)) throw new Error(`${file} is another one`);
    });
    // Whoever breaks off the test does not wait for it.
    arrived.catch(() => undefined);
    return { arrived };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }

  #run(member: string | null, cwd: string, ...command: readonly string[]): Program {
    return this.#resources.use(
      new Program([...this.#network.commandPrefix(member), ...command], { cwd, env: this.#env }),
    );
  }
}
