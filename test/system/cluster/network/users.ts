import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Program, findProgram } from '../../../support/programs.ts';
import { PORT } from './network-relay.ts';
import { ROUTER_ADDRESS, SERVICE_ADDRESS } from './network-namespaces.ts';
import type { NetworkNamespaces } from './network-namespaces.ts';

/** Much longer than a transfer takes on a busy machine, in milliseconds. */
const TRANSFER_MS = 60_000;

const MAILBOX_PORT = 4000;

/** Hosts of the users, who know one address for all relays. */
export const USERS = ['sender', 'receiver'] as const;

/** The reason to skip tests that need real clients; false if they are installed. */
export function skipWithoutWormhole(): string | false {
  if (findProgram('wormhole') === null) return 'no "wormhole": install the Debian package magic-wormhole';
  // Run the program itself: python3 may not be the one that Debian's packages are for.
  if (spawnSync('twistd3', ['wormhole-mailbox', '--help']).status === 0) return false;
  return 'no mailbox server: install the Debian package python3-magic-wormhole-mailbox-server';
}

/** A file transfer from one user to another. */
export interface Sending {
  /** Suspends the sender, so that the transfer stays incomplete until `resume`. */
  readonly pause: () => void;
  readonly resume: () => void;
  /** Resolves when both programs have succeeded and the received file equals the sent one. */
  readonly arrived: Promise<void>;
}

/** Users of the Python client. They know one address for all relays and cannot reach each other directly. */
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

  /** Starts the mailbox server on the router, which is never cut off. */
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
   * @param near the relay that the sender is routed to
   * @param far the relay that the receiver is routed to
   */
  send(near: string, far: string, bytes: number): Sending {
    this.#sendings += 1;
    const file = `noise-${this.#sendings}.bin`;
    const code = `${this.#sendings}-bluebird-concert`;
    const [outbox, inbox] = ['outbox', 'inbox'].map((name) => join(this.#directory, name));
    if (outbox === undefined || inbox === undefined) throw new Error('no directories');
    for (const box of [outbox, inbox]) mkdirSync(box, { recursive: true });
    const content = randomBytes(bytes);
    writeFileSync(join(outbox, file), content);
    const [sender, receiver] = USERS;
    this.#network.route(sender, near);
    this.#network.route(receiver, far);
    const relay = `tcp:${SERVICE_ADDRESS}:${PORT}`;
    const urls = ['--relay-url', `ws://${ROUTER_ADDRESS}:${MAILBOX_PORT}/v1`, '--transit-helper', relay];
    const flags = ['--no-listen', '--hide-progress'];
    const sends = this.#run(sender, outbox, 'wormhole', ...urls, 'send', ...flags, '--code', code, file);
    const receives = this.#run(
      receiver,
      inbox,
      'wormhole',
      ...urls,
      'receive',
      ...flags,
      '--accept-file',
      code,
    );
    const arrived = Promise.all([sends, receives].map((program) => program.succeeds(TRANSFER_MS))).then(
      () => {
        if (!readFileSync(join(inbox, file)).equals(content))
          throw new Error(`${file} was received with other contents`);
      },
    );
    // A test that fails earlier does not wait for it.
    arrived.catch(() => undefined);
    return { pause: () => sends.kill('SIGSTOP'), resume: () => sends.kill('SIGCONT'), arrived };
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
