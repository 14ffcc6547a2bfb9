import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync, chmodSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { freePort } from '../../support/listening.ts';
import { CONDITION_TIMEOUT_MS, Program, eventually, findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';

const PLUGIN = join(import.meta.dirname, '..', '..', '..', 'deploy', 'munin', 'wormhole_transit_');

export const GRAPHS = ['active', 'bytes', 'bytes_alltime', 'events', 'events_alltime'] as const;

export type Graph = (typeof GRAPHS)[number];

const HOST = 'relay.test';

/** Debian's munin-node with another configuration directory than /etc/munin, for which it has no option. */
const START = `
  use Munin::Common::Defaults;
  $Munin::Common::Defaults::MUNIN_CONFDIR = shift;
  $Munin::Common::Defaults::MUNIN_PLUGSTATE = "$Munin::Common::Defaults::MUNIN_CONFDIR/state";
  my $program = shift;
  do $program or die $@ || $!;
  exit main();`;

/** Reason to skip tests that need munin-node; false if it is installed. */
export function withoutMunin(): string | false {
  for (const [program, debianPackage] of [
    ['munin-node', 'munin-node'],
    ['sqlite3', 'sqlite3'],
  ] as const) {
    if (findProgram(program) === null) return `no "${program}": install the Debian package ${debianPackage}`;
  }
  return false;
}

/**
 * A munin-node with the plugin under all of its names and no other plugin. Queries use the protocol of
 * Munin's master.
 */
export class MuninNode {
  readonly #directory: string;
  readonly #socket: Socket;
  readonly #answers: AsyncIterator<string>;

  private constructor(directory: string, socket: Socket) {
    this.#directory = directory;
    this.#socket = socket;
    this.#answers = linesOf(socket);
  }

  /**
   * Starts it until the end of the test.
   *
   * @param settings lines of the plugin's section in plugin-conf.d
   */
  static async start(context: TestContext, settings: readonly string[]): Promise<MuninNode> {
    const directory = await scratch(context);
    const port = await freePort();
    install(directory, port, settings);
    const program = findProgram('munin-node') ?? '';
    const node = new Program(
      ['perl', '-e', START, directory, program, '--config', join(directory, 'node.conf')],
      { env: { PATH: process.env['PATH'] } },
    );
    context.after(() => node[Symbol.asyncDispose]());
    await eventually(
      () => `munin-node listens (${node.stderr})`,
      CONDITION_TIMEOUT_MS,
      () => (logOf(directory).includes('Binding to TCP port') ? true : null),
    );
    const munin = new MuninNode(directory, await connectWithRetries(port));
    context.after(() => munin.#socket.destroy());
    // The banner.
    await munin.#line();
    return munin;
  }

  /** Log of munin-node, which includes the standard error of the plugins. */
  get log(): string {
    return logOf(this.#directory);
  }

  /** Names of its plugins. */
  async list(): Promise<string[]> {
    this.#socket.write(`list ${HOST}\n`);
    return (await this.#line()).split(' ').toSorted();
  }

  /** Configuration of a graph, one `name value` per line. */
  config(graph: Graph): Promise<ReadonlyMap<string, string>> {
    return this.#ask('config', graph);
  }

  /** Values of a graph by field name, as text. */
  async fetch(graph: Graph): Promise<Readonly<Record<string, string>>> {
    const values = await this.#ask('fetch', graph);
    return Object.fromEntries([...values].map(([name, value]) => [name.replace(/\.value$/u, ''), value]));
  }

  /** All values of all graphs. */
  async fetchAll(): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>> {
    const all: Record<string, Readonly<Record<string, string>>> = {};
    for (const graph of GRAPHS) all[graph] = await this.fetch(graph);
    return all;
  }

  async #ask(command: string, graph: Graph): Promise<ReadonlyMap<string, string>> {
    this.#socket.write(`${command} wormhole_transit_${graph}\n`);
    const answer = new Map<string, string>();
    for (let line = await this.#line(); line !== '.'; line = await this.#line()) {
      const [name = '', ...rest] = line.split(' ');
      answer.set(name, rest.join(' '));
    }
    return answer;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`munin-node closed the connection\n${this.log}`);
    return value;
  }
}

/** Files are readable for every user, because the plugin may run as any. */
function install(directory: string, port: number, settings: readonly string[]): void {
  chmodSync(directory, 0o755);
  for (const part of ['plugins', 'plugin-conf.d', 'state', 'share']) mkdirSync(join(directory, part));
  const plugin = join(directory, 'share', 'wormhole_transit_');
  copyFileSync(PLUGIN, plugin);
  chmodSync(plugin, 0o755);
  for (const graph of GRAPHS) symlinkSync(plugin, join(directory, 'plugins', `wormhole_transit_${graph}`));
  writeFileSync(
    join(directory, 'plugin-conf.d', 'wormhole'),
    ['[wormhole_transit_*]', ...settings, ''].join('\n'),
  );
  writeFileSync(
    join(directory, 'node.conf'),
    `log_level 4
log_file ${join(directory, 'log')}
pid_file ${join(directory, 'pid')}
background 0
setsid 0
user ${process.getuid?.()}
group ${process.getgid?.()}
host_name ${HOST}
host 127.0.0.1
port ${port}
allow ^127\\.0\\.0\\.1$
`,
  );
}

function logOf(directory: string): string {
  try {
    return readFileSync(join(directory, 'log'), 'utf8');
  } catch {
    // The file does not exist before the first line.
    return '';
  }
}

/** Retries, because munin-node logs its port shortly before it listens. */
async function connectWithRetries(port: number): Promise<Socket> {
  for (let attempt = 1; ; attempt += 1) {
    const socket = connect({ host: '127.0.0.1', port });
    const error = await new Promise<Error | null>((resolve) => {
      socket.once('connect', () => resolve(null));
      socket.once('error', resolve);
    });
    if (error === null) return socket;
    if (attempt === 100) throw error;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let rest = '';
  for await (const bytes of socket) {
    const lines = (rest + String(bytes)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}
