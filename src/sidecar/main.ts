import { getPriority, setPriority } from 'node:os';
import { formatFault } from '../config/config.ts';
import { readSidecarEnv } from '../config/sidecar-config.ts';
import type { SidecarConfig } from '../config/sidecar-config.ts';
import { createLog, faultOf } from '../logging.ts';
import { ListenError } from '../net/listener.ts';
import { Output } from '../output.ts';
import { Sidecar } from './sidecar.ts';
import { SnapshotError } from './snapshot-store.ts';

/** Exit codes; the last two are those of sysexits.h. */
const EXIT = { stopped: 0, cannotStart: 1, internalError: 70, badConfiguration: 78 } as const;

/** How long the process is given to end by itself once everything is closed, in milliseconds. */
const LINGER_MS = 500;

/** Transfers come first: the relay gets the processor before this. */
const NICE = 10;

const read = readSidecarEnv(process.env);
if (read.kind === 'faults') {
  for (const warning of read.warnings) process.stderr.write(`${warning}\n`);
  for (const fault of read.faults) process.stderr.write(`${formatFault(fault)}\n`);
  process.exitCode = EXIT.badConfiguration;
} else {
  await run(read.config, read.warnings);
}

async function run(config: SidecarConfig, warnings: readonly string[]): Promise<void> {
  // Nobody but root may take more of the processor than it was given.
  setPriority(Math.max(NICE, getPriority()));
  const output = new Output(1);
  const log = createLog(config.logLevel, output);
  for (const warning of warnings) log.warn(warning);
  // Node says on standard error that taking types off is new to it. Whoever runs this can do nothing about that.
  process.removeAllListeners('warning');
  process.on('warning', ({ name, message }) => {
    if (name !== 'ExperimentalWarning') log.warn({ name, message }, 'a warning of Node');
  });

  const sidecar = new Sidecar(config, log);
  let ending = false;

  async function end(exitCode: number): Promise<void> {
    if (ending) return;
    ending = true;
    await sidecar.close();
    log.info('stopped');
    await output.close();
    process.exitCode = exitCode;
    setTimeout(() => process.exit(exitCode), LINGER_MS).unref();
  }

  async function crash(error: unknown): Promise<void> {
    if (ending) process.exit(EXIT.internalError);
    log.fatal({ fault: faultOf(error) }, 'internal error');
    await end(EXIT.internalError);
    process.exit(EXIT.internalError);
  }

  function onSignal(signal: NodeJS.Signals): void {
    if (ending) return;
    log.info({ signal }, 'stopping');
    void end(EXIT.stopped).catch(crash);
  }

  process.on('uncaughtException', (error) => void crash(error));
  process.on('SIGPIPE', () => undefined);

  try {
    await sidecar.start();
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  } catch (error) {
    if (!(error instanceof ListenError || error instanceof SnapshotError)) throw error;
    process.stderr.write(`${error.message}\n`);
    await end(EXIT.cannotStart);
  }
}
