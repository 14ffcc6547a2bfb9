import { deepEqual, equal, match, notEqual, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, test } from 'node:test';
import { CONDITION_TIMEOUT_MS, Program, eventually, findProgram } from '../../support/programs.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import type { UsageRow } from '../../support/relay-process.ts';

/** Much longer than a transfer takes on a busy machine, and shorter than the client's own two minutes. */
const TRANSFER_MS = 60_000;

/** Time after which the client tries a relay in addition to direct connections, in seconds. */
const CLIENTS_RELAY_DELAY_SECONDS = 2;

const LOOPBACK = '127.0.0.1';

/** Addresses for documentation (RFC 5737), which exist only in our network namespaces. */
const RELAY_ADDRESS = '203.0.113.1';
const LINKS = [
  { client: '192.0.2.2', middle: '192.0.2.1' },
  { client: '198.51.100.2', middle: '198.51.100.1' },
] as const;

const skip = missingPrograms();

function missingPrograms(): string | false {
  if (findProgram('wormhole') === null) return 'no "wormhole": install the Debian package magic-wormhole';
  // Runs the program itself, because python3 may not be Debian's Python.
  if (spawnSync('twistd3', ['wormhole-mailbox', '--help']).status === 0) return false;
  return 'no mailbox server: install the Debian package python3-magic-wormhole-mailbox-server';
}

/** A mailbox server, our relay, and two users with a directory each. */
class TestNetwork implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly #prefixes: readonly (readonly string[])[];
  readonly #directory = mkdtempSync(join(tmpdir(), 'relay-wormhole-'));
  readonly outbox = join(this.#directory, 'outbox');
  readonly inbox = join(this.#directory, 'inbox');
  readonly #env = { PATH: process.env['PATH'], HOME: this.#directory, LANG: 'C.UTF-8' };
  #urls: readonly string[] = [];
  #relay: RelayProcess | null = null;
  #usage: UsageReader | null = null;
  relayHint = '';

  /** @param prefixes commands that run the servers, the sender and the receiver in their namespaces */
  private constructor(prefixes: readonly (readonly string[])[]) {
    this.#prefixes = prefixes;
    this.#resources.defer(() => rmSync(this.#directory, { recursive: true }));
    for (const directory of [this.outbox, this.inbox]) mkdirSync(directory);
  }

  static async open(address: string, prefixes: readonly (readonly string[])[] = []): Promise<TestNetwork> {
    const network = new TestNetwork(prefixes);
    try {
      await network.#start(address);
      return network;
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(address: string): Promise<void> {
    const listen = `tcp:0:interface=${address}`;
    const database = join(this.#directory, 'usage.sqlite');
    const settings = { RELAY_LISTEN: listen, RELAY_USAGE_DB: database };
    this.#relay = this.#resources.use(await RelayProcess.start(settings, this.#prefixes[0]));
    this.#usage = this.#resources.use(new UsageReader(database));
    this.relayHint = `tcp:${address}:${this.#relay.port('raw')}`;
    const plugin = ['wormhole-mailbox', `--port=${listen}`, '--channel-db=:memory:'];
    const mailbox = this.#run(0, this.#directory, 'twistd3', '-n', '--pidfile=', ...plugin);
    const [, port] = await mailbox.waitForOutput(/PrivacyEnhancedSite starting on (\d+)/u);
    this.#urls = ['--relay-url', `ws://${address}:${port}/v1`, '--transit-helper', this.relayHint];
  }

  #run(user: number, cwd: string, ...command: readonly string[]): Program {
    const prefix = this.#prefixes[user] ?? [];
    return this.#resources.use(new Program([...prefix, ...command], { cwd, env: this.#env }));
  }

  /** Transfers `what` from one user to the other. Resolves when both programs have exited with 0. */
  async transfer(
    code: string,
    flags: readonly string[],
    what: readonly string[],
  ): Promise<[Program, Program]> {
    const client = ['wormhole', ...this.#urls];
    const quiet = ['--hide-progress', ...flags];
    const sender = this.#run(1, this.outbox, ...client, 'send', ...quiet, '--code', code, ...what);
    const receiver = this.#run(2, this.inbox, ...client, 'receive', ...quiet, '--accept-file', code);
    await Promise.all([sender.succeeds(TRANSFER_MS), receiver.succeeds(TRANSFER_MS)]);
    return [sender, receiver];
  }

  /** Stops the relay and returns its only record. */
  async onlyRecord(): Promise<UsageRow> {
    await eventually(
      () => 'a record is written',
      CONDITION_TIMEOUT_MS,
      () => (this.#usage?.rows().length === 0 ? null : true),
    );
    const [record, ...others] = await this.allRecords();
    deepEqual(others, []);
    ok(record);
    return record;
  }

  /** Stops the relay and returns all its records. */
  async allRecords(): Promise<UsageRow[]> {
    await this.#relay?.stop();
    ok(this.#usage);
    return this.#usage.rows();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

suite('the Python client', { skip, concurrency: true }, () => {
  test('sends a file of 20 MB through the relay', async (t) => {
    await using network = await TestNetwork.open(LOOPBACK);
    write(join(network.outbox, 'noise.bin'), 20_000_000);
    const began = Date.now() / 1000;
    const clients = await network.transfer('4-bluebird-concert', ['--no-listen'], ['noise.bin']);
    deepEqual(fingerprints(network.inbox), fingerprints(network.outbox));
    expectRelayed(clients, network.relayHint);
    const record = await network.onlyRecord();
    t.diagnostic(JSON.stringify(record));
    expectTransferRecord(20_000_000, began, record);
  });

  test('sends a folder with nested files through the relay', async (t) => {
    await using network = await TestNetwork.open(LOOPBACK);
    const sizes = { 'trip/a.bin': 700_001, 'trip/days/one.bin': 1, 'trip/days/two/photo.bin': 1_300_000 };
    for (const [path, size] of Object.entries(sizes)) write(join(network.outbox, path), size);
    const began = Date.now() / 1000;
    const clients = await network.transfer('7-classroom-hamlet', ['--no-listen'], ['trip']);
    deepEqual(fingerprints(network.inbox), fingerprints(network.outbox));
    equal(fingerprints(network.inbox).size, 3);
    expectRelayed(clients, network.relayHint);
    const record = await network.onlyRecord();
    t.diagnostic(JSON.stringify(record));
    expectTransferRecord(2_000_002, began, record);
  });

  test('sends a text without the relay', async () => {
    await using network = await TestNetwork.open(LOOPBACK);
    const text = `good morning ${randomBytes(8).toString('hex')}`;
    const [, receiver] = await network.transfer('9-dictator-flatfoot', ['--no-listen'], ['--text', text]);
    equal(receiver.stdout, `${text}\n`);
    deepEqual(await network.allRecords(), []);
  });

  test('relays a file between two networks that cannot reach each other', async (t) => {
    const networks = new Networks();
    t.after(() => networks.remove());
    const unavailable = networks.build();
    if (unavailable !== null) {
      t.skip(unavailable);
      return;
    }
    await using network = await TestNetwork.open(RELAY_ADDRESS, networks.prefixes);
    write(join(network.outbox, 'noise.bin'), 5_000_000);
    const began = Date.now() / 1000;
    // Both clients listen and first try each other's address, as in a home network.
    const clients = await network.transfer('12-existence-kiwi', [], ['noise.bin']);
    deepEqual(fingerprints(network.inbox), fingerprints(network.outbox));
    expectRelayed(clients, network.relayHint);
    const record = await network.onlyRecord();
    t.diagnostic(JSON.stringify(record));
    expectTransferRecord(5_000_000, began, record);
    ok(Date.now() / 1000 - began > CLIENTS_RELAY_DELAY_SECONDS, 'the clients did not try direct connections');
  });
});

/**
 * Three network namespaces: one with the relay, which does not route, and one for each client.
 */
class Networks {
  readonly #ip = findProgram('ip');
  readonly #middle = `relay-${process.pid}-m`;
  readonly #clients = [`relay-${process.pid}-a`, `relay-${process.pid}-b`];
  readonly #names = [this.#middle, ...this.#clients];
  readonly prefixes = this.#names.map((name) => [this.#ip ?? 'ip', 'netns', 'exec', name]);

  /** Creates the networks. Returns the reason if that is impossible, otherwise null. */
  build(): string | null {
    if (this.#ip === null) return 'no "ip": install the Debian package iproute2';
    for (const name of this.#names) {
      const error = this.#run('netns', 'add', name);
      if (error !== null) return `needs root, to create network namespaces: ${error}`;
    }
    const middle = ['-n', this.#middle];
    this.#runOrThrow('netns', 'exec', this.#middle, 'sh', '-c', 'echo 0 >/proc/sys/net/ipv4/ip_forward');
    for (const name of this.#names) this.#runOrThrow('-n', name, 'link', 'set', 'lo', 'up');
    this.#runOrThrow(...middle, 'address', 'add', `${RELAY_ADDRESS}/32`, 'dev', 'lo');
    for (const [index, link] of LINKS.entries()) {
      const client = this.#clients[index] ?? '';
      const ours = `client${index}`;
      this.#runOrThrow(
        ...middle,
        'link',
        'add',
        ours,
        'type',
        'veth',
        'peer',
        'name',
        'uplink',
        'netns',
        client,
      );
      this.#runOrThrow(...middle, 'address', 'add', `${link.middle}/30`, 'dev', ours);
      this.#runOrThrow(...middle, 'link', 'set', ours, 'up');
      this.#runOrThrow('-n', client, 'address', 'add', `${link.client}/30`, 'dev', 'uplink');
      this.#runOrThrow('-n', client, 'link', 'set', 'uplink', 'up');
      this.#runOrThrow('-n', client, 'route', 'add', 'default', 'via', link.middle);
    }
    return null;
  }

  /** Removes the namespaces that exist, and their links with them. */
  remove(): void {
    for (const name of this.#names) this.#run('netns', 'delete', name);
  }

  #run(...args: readonly string[]): string | null {
    const { status, stderr } = spawnSync(this.#ip ?? 'ip', args, { encoding: 'utf8' });
    return status === 0 ? null : `ip ${args.join(' ')}: ${stderr.trim()}`;
  }

  #runOrThrow(...args: readonly string[]): void {
    const error = this.#run(...args);
    if (error !== null) throw new Error(error);
  }
}

function expectTransferRecord(bytes: number, began: number, record: UsageRow): void {
  equal(record.result, 'happy');
  const { total_bytes: total, total_time: time, waiting_time: waited, started } = record;
  ok(total >= bytes && total < bytes * 1.01 + 65_536, `${total} bytes for ${bytes}`);
  notEqual(waited, null);
  ok(Number(waited) >= 0 && Number(waited) <= time, `waited ${waited} of ${time} s`);
  ok(
    started >= began && started + time <= Date.now() / 1000 + 0.1,
    'the times differ from those of the transfer',
  );
}

function expectRelayed([sender, receiver]: [Program, Program], hint: string): void {
  match(sender.stderr, new RegExp(`^Sending \\(->relay:${hint}\\)`, 'mu'));
  match(receiver.stderr, new RegExp(`^Receiving \\(->relay:${hint}\\)`, 'mu'));
}

function write(path: string, size: number): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, randomBytes(size));
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** The SHA-256 of every file below a directory, by path. */
function fingerprints(directory: string): Map<string, string> {
  const paths = readdirSync(directory, { recursive: true, encoding: 'utf8' }).toSorted();
  const files = paths.filter((path) => statSync(join(directory, path)).isFile());
  return new Map(files.map((path) => [path, sha256(join(directory, path))]));
}
