import { setImmediate as nextTurn } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { formatConfigError } from '../config/environment.ts';
import type { ConfigReport, ConfigResult, Environment } from '../config/environment.ts';
import type { LogLevel } from '../config/values.ts';
import { LineWriter, createLog, errorDetails } from './logging.ts';
import type { Log } from './logging.ts';
import type { ProblemEvent } from './problem-events.ts';
import { Signals } from './signals.ts';
import type { ProgramSignal } from './signals.ts';
import { StartupError } from './errors.ts';

/** Exit codes; the last two are those of sysexits.h. */
const EXIT = { stopped: 0, cannotStart: 1, internalError: 70, badConfiguration: 78 } as const;

/** Time for the process to exit by itself after everything is closed, in milliseconds. */
const EXIT_GRACE_MS = 500;

/** Time that a start may continue after a stop signal before it is abandoned, in milliseconds. */
const ABANDON_START_MS = 10_000;

/**
 * Time after which a second stop signal counts, in milliseconds. npm and `timeout` forward signals to a
 * process that already got them from the terminal or its process group: one Ctrl-C arrives twice within
 * milliseconds.
 */
const REPEATED_SIGNAL_MS = 1000;

/** Time to close everything after an internal error, in milliseconds. */
const CRASH_TIMEOUT_MS = 10_000;

/** The service of a program, from its start to its stop. */
export interface Service {
  /**
   * Rejects with a `StartupError`, or with another error after an internal fault. Call `close` in either
   * case.
   */
  start(): Promise<unknown>;
  /** Finishes the work in progress, until `abort`. Call `close` afterwards. */
  drain?(abort: AbortSignal): Promise<void>;
  /** Reloads what may change at run time. */
  reload?(): Promise<void>;
  close(): Promise<void>;
  /**
   * True while a worker thread runs. `process.exit` stops threads first: it waits forever for a thread that
   * is stuck in a system call or in SQLite, and aborts the process if a thread is loading a native module.
   */
  readonly hasThreads?: boolean;
}

export interface Program<Config extends { readonly logLevel: LogLevel }> {
  readonly read: (environment: Environment, pid: number) => ConfigResult<Config>;
  /** @param report the warnings have been logged */
  readonly create: (config: Config, log: Log, report: ConfigReport) => Service;
}

/** The state that signals change. */
interface Lifecycle {
  /** `abandoned`: the process stopped before the start was complete. */
  phase: 'starting' | 'abandoned' | 'running';
  isStopping: boolean;
  /** Time of the first stop signal, in milliseconds of a monotonic clock. */
  stoppingSince: number;
  isReloadPending: boolean;
}

/**
 * Runs a program: environment, log, signals, exit code. Resolves when it is running, or when it has failed to
 * start.
 *
 * SIGTERM and SIGINT stop it, and so does SIGHUP if its terminal was closed. A second SIGTERM or SIGINT, at
 * least a second later, stops it without a drain. Any other SIGHUP reloads. A signal during the start takes
 * effect after the start.
 *
 * If it cannot start, the last line of its log has the reason, on standard output at level `fatal`, whatever
 * the log level is. If only standard error is a terminal, it gets the reason as plain text.
 */
export async function runProgram<Config extends { readonly logLevel: LogLevel }>(
  program: Program<Config>,
  signals = new Signals(),
): Promise<void> {
  const read = program.read(process.env, process.pid);
  const reasons = read.kind === 'ok' ? [] : read.errors.map(formatConfigError);
  const output = openLogWriter((count) =>
    log.error({ event: 'log_lines_dropped', count }, 'log lines dropped'),
  );
  if (output === null) {
    for (const reason of reasons) process.stderr.write(`${reason}\n`);
    process.exitCode = read.kind === 'ok' ? EXIT.cannotStart : EXIT.badConfiguration;
    return;
  }
  const log = createLog(read.kind === 'ok' ? read.config.logLevel : 'warn', output);
  for (const { event, message } of read.warnings) log.warn({ event }, message);
  if (read.kind === 'ok') {
    const { config, warnings, settings } = read;
    await run(() => program.create(config, log, { warnings, settings }), signals, log, output);
    return;
  }
  process.exitCode = EXIT.badConfiguration;
  logFatal(log, 'invalid_configuration', 'invalid configuration', EXIT.badConfiguration, reasons);
  await output.close();
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
}

/** Opens standard output. If that fails, writes the reason to standard error and returns null. */
function openLogWriter(onDropped: (count: number) => void): LineWriter | null {
  try {
    // No other place is left to report that the log is broken.
    return new LineWriter(1, { onDropped, onBroken: () => undefined });
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return null;
  }
}

/** Logs why the program does not start, also on a terminal that does not show the log. */
function logFatal(
  log: Log,
  event: ProblemEvent,
  message: string,
  exitCode: number,
  reasons: readonly string[],
): void {
  if (isatty(2) && !isatty(1)) for (const reason of reasons) process.stderr.write(`${reason}\n`);
  log.fatal({ event, exit_code: exitCode, reasons }, message);
}

async function run(create: () => Service, signals: Signals, log: Log, output: LineWriter): Promise<void> {
  // Writes at every log level, `silent` too.
  const fatalLog = createLog('fatal', output);

  const service = create();
  const stop = new AbortController();
  const life: Lifecycle = { phase: 'starting', isStopping: false, stoppingSince: 0, isReloadPending: false };
  let ended = false;
  let crashed = false;

  function exit(exitCode: number): void {
    // Everything is closed and written. A remaining thread has nothing to lose.
    if (service.hasThreads === true) process.kill(process.pid, 'SIGKILL');
    else process.exit(exitCode);
  }

  /** @param logLast writes the last line of the log */
  async function end(
    exitCode: number,
    logLast = (): void => log.info({ event: 'stopped' }, 'stopped'),
  ): Promise<void> {
    await service.close();
    if (service.hasThreads === true)
      log.error({ event: 'worker_stuck' }, 'worker thread is stuck; killing the process');
    logLast();
    ended = true;
    await output.close();
    process.exitCode = exitCode;
    // The process should exit by itself now. A write that hangs in a thread must not keep it running.
    setTimeout(() => exit(exitCode), EXIT_GRACE_MS).unref();
  }

  async function crash(error: unknown): Promise<void> {
    fatalLog.fatal({ event: 'internal_error', error: errorDetails(error) }, 'internal error');
    // The first error closes everything, within a bounded time.
    if (crashed) return;
    crashed = true;
    setTimeout(() => exit(EXIT.internalError), CRASH_TIMEOUT_MS);
    try {
      await end(EXIT.internalError, () => undefined);
    } finally {
      exit(EXIT.internalError);
    }
  }

  async function drainAndStop(): Promise<void> {
    await service.drain?.(stop.signal);
    await end(EXIT.stopped);
  }

  function abandonStart(): void {
    if (life.phase !== 'starting' || ended || crashed) return;
    life.phase = 'abandoned';
    void end(EXIT.stopped).catch(crash);
  }

  function reload(): void {
    if (service.reload === undefined) log.info({ event: 'nothing_to_reload' }, 'nothing to reload');
    else if (life.phase === 'starting') life.isReloadPending = true;
    else if (!life.isStopping) void service.reload().catch(crash);
  }

  function onSignal(signal: ProgramSignal): void {
    // Everything is closed, including the log.
    if (ended) return;
    if (signal === 'SIGHUP' && !signals.isTerminalClosed) {
      reload();
      return;
    }
    if (life.isStopping) {
      // Closing a terminal sends SIGHUP once or twice. It must not interrupt a drain.
      if (signal === 'SIGHUP' || performance.now() - life.stoppingSince < REPEATED_SIGNAL_MS) return;
      log.info({ event: 'stopping_now', signal }, 'stopping now');
      stop.abort();
      return;
    }
    log.info({ event: 'stopping', signal }, 'stopping');
    life.isStopping = true;
    life.stoppingSince = performance.now();
    if (life.phase === 'running') void drainAndStop().catch(crash);
    else setTimeout(abandonStart, ABANDON_START_MS).unref();
  }

  process.on('uncaughtException', (error) => void crash(error));
  // The reader of a pipe may close it. Writes report that where it matters.
  process.on('SIGPIPE', () => undefined);
  // Warnings of Node.js on standard error are for developers. Operators read the log.
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => {
    if (name !== 'ExperimentalWarning') log.warn({ event: 'node_warning', name, message }, 'Node.js warning');
  });
  signals.deliverTo(onSignal);
  // Signals that came while modules were loading are delivered in a turn of the event loop.
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
    await end(EXIT.cannotStart, () =>
      logFatal(fatalLog, 'start_failed', 'start failed', EXIT.cannotStart, [message]),
    );
    return;
  }
  if (life.phase === 'abandoned') return;
  life.phase = 'running';
  if (life.isStopping) await drainAndStop();
  else if (life.isReloadPending) await service.reload?.();
}
