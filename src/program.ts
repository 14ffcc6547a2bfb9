import type { Logger } from 'pino';
import { formatFault } from './config/fault.ts';
import type { LogLevel } from './config/config.ts';
import type { Environment } from './config/environment.ts';
import type { ReadResult } from './config/read-env.ts';
import { createLog, faultOf } from './logging.ts';
import { Output } from './output.ts';

/** Exit codes; the last two are those of sysexits.h. */
const EXIT = { stopped: 0, cannotStart: 1, internalError: 70, badConfiguration: 78 } as const;

/** How long the process is given to end by itself once everything is closed, in milliseconds. */
const LINGER_MS = 500;

/** What a program runs from its start until it is told to stop. */
export interface Service {
  /** Rejects with one of the program's `refusals`, or because something in it is wrong. `close` is due then too. */
  start(): Promise<unknown>;
  /** Ends its work in peace, for as long as that takes and `abort` does not end it. `close` is due afterwards. */
  drain?(abort: AbortSignal): Promise<void>;
  /** Reads anew what may change while it runs. */
  reload?(): Promise<void>;
  close(): Promise<void>;
}

export interface Program<Config extends { readonly logLevel: LogLevel }> {
  readonly read: (environment: Environment, pid: number) => ReadResult<Config>;
  readonly create: (config: Config, log: Logger) => Service;
  /** Errors whose message is a sentence for the operator. */
  readonly refusals: readonly (new (...args: never[]) => Error)[];
}

/**
 * The life of a process: its environment, its log, its signals, its exit code. Resolves when it runs, or will not.
 *
 * SIGTERM and SIGINT stop it, a second one at once; SIGHUP has it read anew what it can. Faults of the configuration and of the start go to standard error.
 */
export async function runProgram<Config extends { readonly logLevel: LogLevel }>(
  program: Program<Config>,
): Promise<void> {
  const read = program.read(process.env, process.pid);
  if (read.kind === 'ok') {
    await run(program, read.config, read.warnings);
    return;
  }
  for (const line of [...read.warnings, ...read.faults.map(formatFault)]) process.stderr.write(`${line}\n`);
  process.exitCode = EXIT.badConfiguration;
}

async function run<Config extends { readonly logLevel: LogLevel }>(
  { create, refusals }: Program<Config>,
  config: Config,
  warnings: readonly string[],
): Promise<void> {
  const output = new Output(1, {
    lost: (count) => log.error({ count }, 'lines of this log are lost'),
    // There is nobody left to tell.
    broken: () => undefined,
  });
  const log = createLog(config.logLevel, output);
  for (const warning of warnings) log.warn(warning);

  const service = create(config, log);
  const stop = new AbortController();
  let stopping = false;
  let ended = false;
  let crashed = false;

  async function end(exitCode: number): Promise<void> {
    await service.close();
    log.info('stopped');
    ended = true;
    await output.close();
    process.exitCode = exitCode;
    // Nothing should be left to wait for; a write that hangs in a thread must not keep the process.
    setTimeout(() => process.exit(exitCode), LINGER_MS).unref();
  }

  async function crash(error: unknown): Promise<void> {
    if (crashed) process.exit(EXIT.internalError);
    crashed = true;
    log.fatal({ fault: faultOf(error) }, 'internal error');
    await end(EXIT.internalError);
    process.exit(EXIT.internalError);
  }

  async function stopInPeace(): Promise<void> {
    await service.drain?.(stop.signal);
    await end(EXIT.stopped);
  }

  function onSignal(signal: NodeJS.Signals): void {
    // The log is closed, and so is everything else.
    if (ended) return;
    log.info({ signal }, stopping ? 'stopping now' : 'stopping');
    if (stopping) {
      stop.abort();
      return;
    }
    stopping = true;
    void stopInPeace().catch(crash);
  }

  process.on('uncaughtException', (error) => void crash(error));
  // The reader of a pipe of ours may go away; writes report it where it matters.
  process.on('SIGPIPE', () => undefined);
  // Node's own words on standard error are for developers; what an operator should know is in the log.
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => {
    if (name !== 'ExperimentalWarning') log.warn({ name, message }, 'a warning of Node');
  });

  try {
    await service.start();
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    if (service.reload !== undefined) process.on('SIGHUP', () => void service.reload?.().catch(crash));
  } catch (error) {
    if (!(error instanceof Error && refusals.some((refusal) => error instanceof refusal))) throw error;
    process.stderr.write(`${error.message}\n`);
    await end(EXIT.cannotStart);
  }
}
