import { setFlagsFromString } from 'node:v8';
import { formatFault } from './config/config.ts';
import type { Config } from './config/config.ts';
import { readEnv } from './config/read-env.ts';
import { createLog, faultOf } from './logging.ts';
import { ListenError } from './net/listener.ts';
import { Output, OutputError } from './output.ts';
import { Relay } from './relay.ts';
import { UsageDatabaseError } from './usage/sqlite-sink.ts';

/** Exit codes; the last two are those of sysexits.h. */
const EXIT = { stopped: 0, cannotStart: 1, internalError: 70, badConfiguration: 78 } as const;

/** How long the process is given to end by itself once everything is closed, in milliseconds. */
const LINGER_MS = 500;

// What moving bytes leaves behind is little and short-lived. Left to itself V8 takes it for a reason to
// grow the young generation to 128 MiB, and keeps that.
setFlagsFromString('--semi-space-growth-factor=1');

const read = readEnv(process.env);
if (read.kind === 'faults') {
  for (const warning of read.warnings) process.stderr.write(`${warning}\n`);
  for (const fault of read.faults) process.stderr.write(`${formatFault(fault)}\n`);
  process.exitCode = EXIT.badConfiguration;
} else {
  await run(read.config, read.warnings);
}

async function run(config: Config, warnings: readonly string[]): Promise<void> {
  const output = new Output(1);
  const log = createLog(config.logLevel, output);
  for (const warning of warnings) log.warn(warning);

  const relay = new Relay(config, log);
  const stop = new AbortController();
  let stopping = false;
  let crashed = false;

  async function end(exitCode: number): Promise<void> {
    await relay.close();
    log.info('stopped');
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

  function onSignal(signal: NodeJS.Signals): void {
    log.info({ signal }, stopping ? 'stopping now' : 'stopping');
    if (stopping) {
      stop.abort();
      return;
    }
    stopping = true;
    void relay
      .drain(stop.signal)
      .then(() => end(EXIT.stopped))
      .catch(crash);
  }

  process.on('uncaughtException', (error) => void crash(error));
  // The reader of a pipe of ours may go away; writes report it where it matters.
  process.on('SIGPIPE', () => undefined);

  try {
    await relay.start();
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  } catch (error) {
    if (!(
      error instanceof ListenError ||
      error instanceof UsageDatabaseError ||
      error instanceof OutputError
    ))
      throw error;
    process.stderr.write(`${error.message}\n`);
    await end(EXIT.cannotStart);
  }
}
