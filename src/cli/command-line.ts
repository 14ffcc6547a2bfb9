import { errorCode } from '../process/errors.ts';
import { VERSION } from '../process/version.ts';
import { EXIT, UsageError, parseArguments, similarTo } from './arguments.ts';

interface Command {
  /** Its arguments, as in `transit-relay import OLD NEW`. */
  readonly synopsis: string;
  /** A line of the list of commands. */
  readonly summary: string;
  /** What else its help says, with newlines at its ends. */
  readonly details: string;
  /**
   * Resolves with the exit code. Each command loads its modules when it runs.
   *
   * @throws UsageError
   */
  readonly run: (args: readonly string[]) => Promise<number>;
}

const SETTINGS = 'All settings are environment variables.';

const COMMANDS: ReadonlyMap<string, Command> = new Map([
  [
    'serve',
    {
      synopsis: '',
      summary: 'run the relay (the default)',
      details: `${SETTINGS} SIGTERM and SIGINT stop the relay, SIGHUP reloads certificates.\n`,
      run: rejectArguments,
    },
  ],
  [
    'sidecar',
    {
      synopsis: '',
      summary: 'run the dashboard, with snapshots and usage data',
      details: `${SETTINGS}\n`,
      run: rejectArguments,
    },
  ],
  [
    'healthcheck',
    {
      synopsis: 'relay|transfer|sidecar|snapshot',
      summary: 'run one health check of the relay or sidecar of this machine',
      details: `
Uses the environment variables of the program that it checks. Prints one line.
  relay     the relay answers and accepts a client on each listener
  transfer  two clients pair and send each other 64 KiB
  sidecar   the sidecar answers
  snapshot  the newest snapshot is young enough and undamaged
Exit codes: 0 healthy, 1 not healthy.
`,
      run: async (args) => (await import('./healthcheck.ts')).healthcheckCommand(args),
    },
  ],
  [
    'import',
    {
      synopsis: 'OLD NEW',
      summary: 'import the records of a combined magic-wormhole server',
      details: `
Imports usage records from OLD, the database (relay.sqlite) of a combined magic-wormhole server before 0.11,
into NEW, a new usage database for RELAY_USAGE_DB. OLD is not changed. NEW must not exist yet.
`,
      run: async (args) => (await import('./import.ts')).importCommand(args),
    },
  ],
  [
    'config',
    {
      synopsis: '[--check] [--json] [--sidecar]',
      summary: 'show the configuration in force, or its errors',
      details: `
Prints each variable with its value, and whether it is set. It shows no secrets.
  --check    print nothing but problems; unknown variables are errors
  --json     print JSON
  --sidecar  include the sidecar, even if none of its variables is set
Exit codes: 0 valid, 78 invalid.
`,
      run: async (args) => (await import('./config.ts')).configCommand(args),
    },
  ],
  [
    'check',
    {
      synopsis: '[--insecure] [--json] [--size=SIZE] [--timeout=TIME] ENDPOINT...',
      summary: 'test a relay over the network, from any machine',
      details: `
Pairs two clients through each endpoint, and between each two of them. Prints a line for each test: the round
trip through the pair, the throughput of a transfer, and the days until the certificate expires.
  tcp:HOST:PORT, HOST:PORT                           raw clients
  ssl:HOST:PORT                                      raw clients with TLS
  ws://HOST[:PORT][/PATH], wss://HOST[:PORT][/PATH]  WebSocket clients
  --insecure  accept any certificate
  --json      print one JSON object
  --size      bytes to transfer in each test, in 2 seconds at most (default 16MiB); they count for a quota
  --timeout   time without progress after which a test fails (default 10s)
NODE_EXTRA_CA_CERTS names a file with the certificates of a private authority.
Exit codes: 0 all tests succeeded, 1 a test failed.
`,
      run: async (args) => (await import('./check.ts')).checkCommand(args),
    },
  ],
]);

/**
 * Runs the command line without `transit-relay`. The programs themselves are started by `transit-relay.ts`.
 *
 * @returns the exit code
 */
export async function runCommand([word = '', ...rest]: readonly string[]): Promise<number> {
  process.stdout.on('error', (error) => {
    if (errorCode(error) !== 'EPIPE') throw error;
    // A reader like `head` has closed the pipe.
    process.exit(EXIT.failed);
  });
  if (word === '--version' || word === '-V') return print(`${VERSION}\n`);
  if (['help', '--help', '-h'].includes(word)) return help(rest[0]);
  const command = COMMANDS.get(word);
  if (command === undefined) return rejectWord(word);
  if (rest.includes('--help') || rest.includes('-h')) return help(word);
  try {
    return await command.run(rest);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return fail(`${word}: ${error.message}`, `${word} --help`);
  }
}

function help(word: string | undefined): number {
  const command = word === undefined ? undefined : COMMANDS.get(word);
  if (command !== undefined) return print(helpOf(word ?? '', command));
  return word === undefined || word.startsWith('-') ? print(overview()) : rejectWord(word);
}

function helpOf(word: string, { synopsis, summary, details }: Command): string {
  const usage = ['transit-relay', word, synopsis].filter((part) => part !== '').join(' ');
  return `Usage: ${usage}\n\n${summary[0]?.toUpperCase() ?? ''}${summary.slice(1)}.\n${details}`;
}

function overview(): string {
  const commands = [...COMMANDS].map(([word, { summary }]) => `  ${word.padEnd(12)} ${summary}\n`);
  return `Usage: transit-relay [COMMAND] [ARGUMENT...]

Commands:
${commands.join('')}  ${'help'.padEnd(12)} show the help of a command

Options:
  -h, --help     show this help, or that of a command
  -V, --version  show the version

${SETTINGS}
`;
}

function rejectWord(word: string): number {
  const [kind, known] = word.startsWith('-')
    ? ['option', ['--help', '--version']]
    : ['command', [...COMMANDS.keys(), 'help']];
  return fail(`unknown ${kind} ${JSON.stringify(word)}${similarTo(word, known)}`, '--help');
}

/** The programs take no arguments, and `transit-relay.ts` starts them if there are none. */
function rejectArguments(args: readonly string[]): never {
  parseArguments(args, {});
  throw new UsageError('no arguments are accepted; all settings are environment variables');
}

function print(text: string): number {
  process.stdout.write(text);
  return EXIT.ok;
}

function fail(problem: string, helpArguments: string): number {
  process.stderr.write(`transit-relay: ${problem}; see "transit-relay ${helpArguments}"\n`);
  return EXIT.usage;
}
