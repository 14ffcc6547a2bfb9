import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { ClaimKeys } from '../../../src/cluster/claim-key.ts';
import { encodeOwner } from '../../../src/cluster/claim-value.ts';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { handshake } from '../../support/bytes.ts';
import { Program } from '../../support/programs.ts';
import type { NetworkRelay } from './network-relay.ts';
import { SECRET, STRANGER } from './site.ts';
import type { Site } from './site.ts';

const SCRIPT = join(import.meta.dirname, 'stranger.ts');

const FIRST_PORT = 5000;

/** One thing that a stranger tells: see `stranger.ts`. */
interface Told {
  readonly who?: string;
  readonly said?: string;
  /** What it heard; of a crowd, how often what. */
  readonly heard?: string | Readonly<Record<string, number>>;
}

/** Somebody who reaches the relays' cluster ports and has no secret. */
export class Stranger {
  /** Where it listens, as an owner's address. */
  readonly address: string;
  readonly #program: Program;

  constructor(program: Program, address: string) {
    this.#program = program;
    this.address = address;
  }

  /** Resolves when it has told something like this. */
  async tells(pattern: RegExp): Promise<void> {
    await this.#program.waitForOutput(pattern);
  }

  /** Everything that it has told so far. */
  get told(): readonly Told[] {
    const lines = this.#program.stdout.split('\n').filter((line) => line.endsWith('}'));
    return lines.map((line): unknown => JSON.parse(line)).filter(isTold);
  }
}

/** The strangers of a site, for as long as the test lasts. */
export class Strangers {
  readonly #context: TestContext;
  readonly #site: Site;
  readonly #keys = new ClaimKeys(SECRET);
  #port = FIRST_PORT;

  constructor(context: TestContext, site: Site) {
    this.#context = context;
    this.#site = site;
  }

  /** Connects `count` times to a relay's cluster port, and says `text` each time. Resolves when all are there, or have gone. */
  async crowd(relay: NetworkRelay, count: number, text: string): Promise<Stranger> {
    const crowd = this.#start('crowd', ...placeOf(relay.address), String(count), text);
    await crowd.tells(/"connected"|"heard"/u);
    return crowd;
  }

  /** Passes on to a relay's cluster port whoever comes, and listens. */
  listener(relay: NetworkRelay): Promise<Stranger> {
    return this.#serve('listener', ...placeOf(relay.address));
  }

  /** Takes itself for a relay, and says one of the texts after the other. */
  impostor(...texts: readonly string[]): Promise<Stranger> {
    return this.#serve('impostor', ...texts);
  }

  /** Has the coordinator say that a token is a relay's with that address. */
  async claim(token: string, { address }: Stranger): Promise<void> {
    const line = parseHandshake(Buffer.from(handshake(token)));
    if (line.kind !== 'relay') throw new Error('no token');
    await this.#site.coordinator.set(
      this.#keys.of(line.token),
      encodeOwner({ id: 'a-relay-that-is-none', address }),
    );
  }

  async #serve(role: string, ...args: readonly string[]): Promise<Stranger> {
    this.#port += 1;
    const host = this.#site.network.addressOf(STRANGER);
    const stranger = this.#start(role, host, String(this.#port), ...args);
    await stranger.tells(/"listening"/u);
    return stranger;
  }

  #start(role: string, host: string, port: string, ...args: readonly string[]): Stranger {
    const command = [process.execPath, SCRIPT, role, host, port, ...args];
    const program = new Program([...this.#site.network.as(STRANGER), ...command]);
    this.#context.after(() => program[Symbol.asyncDispose]());
    return new Stranger(program, `${host}:${port}`);
  }
}

function placeOf(address: string): readonly [host: string, port: string] {
  const [host = '', port = ''] = address.split(':');
  return [host, port];
}

function isTold(value: unknown): value is Told {
  return typeof value === 'object' && value !== null;
}
