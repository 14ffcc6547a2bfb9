import { setImmediate as nextTurn } from 'node:timers/promises';
import { isatty } from 'node:tty';
import type { Logger } from 'pino';
import { formatConfigError } from '../config/environment.ts';
import type { Environment } from '../config/environment.ts';
import type { ConfigResult } from '../config/environment.ts';
import type { LogLevel } from '../config/values.ts';
import { LineWriter } from './line-writer.ts';
import { createLog, errorDetails } from './logging.ts';
import { Signals } from './signals.ts';
import type { ProgramSignal } from './signals.ts';
import { StartupError } from './startup-error.ts';

/** Exit codes; the last two are those of sysexits.h. */
const EXIT = { stopped: 0, cannotStart: 1, internalError: 70, badConfiguration: 78 } as const;

/** How long the process is given to end by itself once everything is closed, in milliseconds. */
const EXIT_GRACE_MS = 500;

/** How long a start may go on after a signal to stop before it is abandoned, in milliseconds. */
const ABANDON_START_MS = 10_000;

/**
 * A second signal to stop counts only after this, in milliseconds. npm and `timeout` pass a signal on to a process that has it
 * from the terminal or its process group already: one Ctrl-C arrives twice within milliseconds.
 */
const REPEATED_SIGNAL_MS = 1000;

/** How long everything may take to close after an internal error, in milliseconds. */
const CRASH_TIMEOUT_MS = 10_000;

/** What a program runs from its start until it is told to stop. */
export interface Service {
  /** Rejects with a `StartupError`, or with another error after an internal fault. Call `close` in either case. */
  start(): Promise<unknown>;
  /** Ends its work in peace, for as long as that takes and `abort` does not end it. `close` is due afterwards. */
  drain?(abort: AbortSignal): Promise<void>;
  /** Reads anew what may change while it runs. */
  reload?(): Promise<void>;
  close(): Promise<void>;
  /**
   * Whether a worker thread runs. `process.exit` stops threads first: it waits forever for one that is stuck in a system
   * call or in SQLite, and aborts the process when one is just loading a native module.
   */
  readonly hasThreads?: boolean;
}

export interface Program<Config extends { readonly logLevel: LogLevel }> {
  readonly read: (environment: Environment, pid: number) => ConfigResult<Config>;
  readonly create: (config: Config, log: Logger) => Service;
}

/** What the signals so far have changed. */
interface Lifecycle {
  /** `abandoned`: a stop did not wait for the end of the start. */
  phase: 'starting' | 'abandoned' | 'running';
  isStopping: boolean;
  /** When it began to stop, in milliseconds of a monotonic clock. */
  stoppingSince: number;
  isReloadPending: boolean;
}

/**
 * The life of a process: its environment, its log, its signals, its exit code. Resolves when it runs, or will not.
 *
 * SIGTERM and SIGINT stop it, and so does SIGHUP if its terminal was closed. A second SIGTERM or SIGINT, a second later or more, stops it
 * without a drain. Any other SIGHUP reloads. A signal during the start takes effect when the start is over.
 *
 * If it can't start, the last line of its log says why, on standard output and at level `fatal`, whatever the log level is. Standard
 * error has the same in sentences if it is a terminal.
 */
export async function runProgram<Config extends { readonly logLevel: LogLevel }>(
  program: Program<Config>,
  signals = new Signals(),
): Promise<void> {
  const read = program.read(process.env, process.pid);
  const reasons = read.kind === 'ok' ? [] : read.errors.map(formatConfigError);
  const output = openLogWriter((count) => log.error({ count }, 'log lines dropped'));
  if (output === null) {
    for (const reason of reasons) process.stderr.write(`${reason}\n`);
    process.exitCode = read.kind === 'ok' ? EXIT.cannotStart : EXIT.badConfiguration;
    return;
  }
  const log = createLog(read.kind === 'ok' ? read.config.logLevel : 'warn', output);
  for (const warning of read.warnings) log.warn(warning);
  if (read.kind === 'ok') {
    await run(program, signals, read.config, log, output);
    return;
  }
  process.exitCode = EXIT.badConfiguration;
  logFatal(log, 'invalid configuration', EXIT.badConfiguration, reasons);
  await output.close();
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
}

/** Standard output; null, and a sentence on standard error, if it can't be written to. */
function openLogWriter(lost: (count: number) => void): LineWriter | null {
  try {
    // No other place is left to report that the log is broken.
    return new LineWriter(1, { onDropped: lost, onBroken: () => undefined });
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return null;
  }
}

/** Says why the program does not start. */
function logFatal(log: Logger, event: string, exitCode: number, reasons: readonly string[]): void {
  if (isatty(2)) for (const reason of reasons) process.stderr.write(`${reason}\n`);
  log.fatal({ exitCode, reasons }, event);
}

async function run<Config extends { readonly logLevel: LogLevel }>(
  { create }: Program<Config>,
  signals: Signals,
  config: Config,
  log: Logger,
  output: LineWriter,
): Promise<void> {
  // Writes at every log level, `silent` too.
  const fatalLog = createLog('fatal', output);

  const service = create(config, log);
  const stop = new AbortController();
  const life: Lifecycle = { phase: 'starting', isStopping: false, stoppingSince: 0, isReloadPending: false };
  let ended = false;
  let crashed = false;

  function exit(exitCode: number): void {
    // Everything is closed and written: a thread that is left has nothing to lose.
    if (service.hasThreads === true) process.kill(process.pid, 'SIGKILL');
    else process.exit(exitCode);
  }

  /** @param logLast writes the last line of the log */
  async function end(exitCode: number, logLast = (): void => log.info('stopped')): Promise<void> {
    await service.close();
    if (service.hasThreads === true) log.error('worker thread is stuck; killing the process');
    logLast();
    ended = true;
    await output.close();
    process.exitCode = exitCode;
    // Nothing should be left to wait for; a write that hangs in a thread must not keep the process.
    setTimeout(() => exit(exitCode), EXIT_GRACE_MS).unref();
  }

  async function crash(error: unknown): Promise<void> {
    fatalLog.fatal({ error: errorDetails(error) }, 'internal error');
    // The first one is closing everything, for a bounded time.
    if (crashed) return;
    crashed = true;
    setTimeout(() => exit(EXIT.internalError), CRASH_TIMEOUT_MS);
    try {
      await end(EXIT.internalError, () => undefined);
    } finally {
      exit(EXIT.internalError);
    }
  }

  async function stopInPeace(): Promise<void> {
    await service.drain?.(stop.signal);
    await end(EXIT.stopped);
  }

  function abandonStart(): void {
    if (life.phase !== 'starting' || ended || crashed) return;
    life.phase = 'abandoned';
    void end(EXIT.stopped).catch(crash);
  }

  function reload(): void {
    if (service.reload === undefined) log.info('nothing to reload');
    else if (life.phase === 'starting') life.isReloadPending = true;
    else if (!life.isStopping) void service.reload().catch(crash);
  }

  function onSignal(signal: ProgramSignal): void {
    // The log is closed, and so is everything else.
    if (ended) return;
    if (signal === 'SIGHUP' && !signals.isTerminalClosed) {
      reload();
      return;
    }
    if (life.isStopping) {
      // A terminal that is closed sends SIGHUP once or twice, and never to interrupt a drain.
      if (signal === 'SIGHUP' || performance.now() - life.stoppingSince < REPEATED_SIGNAL_MS) return;
      log.info({ signal }, 'stopping now');
      stop.abort();
      return;
    }
    log.info({ signal }, 'stopping');
    life.isStopping = true;
    life.stoppingSince = performance.now();
    if (life.phase === 'running') void stopInPeace().catch(crash);
    else setTimeout(abandonStart, ABANDON_START_MS).unref();
  }

  process.on('uncaughtException', (error) => void crash(error));
  // The reader of a pipe of ours may go away; writes report it where it matters.
  process.on('SIGPIPE', () => undefined);
  // Node's own words on standard error are for developers; what an operator should know is in the log.
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => {
    if (name !== 'ExperimentalWarning') log.warn({ name, message }, 'Node.js warning');
  });
  signals.deliverTo(onSignal);
  // What came while modules were loaded is delivered in a turn of the event loop.
  await nextTurn();

  if (life.isStopping) {
    await end(EXIT.stopped);
    return;
  }
  try {
    await service.start();
  } catch (error) {
    if (life.phase === 'abandoned') return;
    if (!(error instanceof StartupError)) throw error;
    const { message } = error;
    await end(EXIT.cannotStart, () => logFatal(fatalLog, 'start failed', EXIT.cannotStart, [message]));
    return;
  }
  if (life.phase === 'abandoned') return;
  life.phase = 'running';
  if (life.isStopping) await stopInPeace();
  else if (life.isReloadPending) await service.reload?.();
}
