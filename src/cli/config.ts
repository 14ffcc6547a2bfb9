import { isDeploymentDefault } from '../config/deployment.ts';
import { formatConfigError } from '../config/environment.ts';
import type { ConfigResult, ConfigWarning, Environment, Setting } from '../config/environment.ts';
import { readRelayConfig } from '../config/relay-config.ts';
import type { RelayConfig } from '../config/relay-config.ts';
import { readSidecarConfig } from '../config/sidecar-config.ts';
import { isServiceVariable } from '../config/unknown-variables.ts';
import { resolveCapacity } from '../limits/capacity.ts';
import { EXIT, UsageError, parseArguments } from './arguments.ts';

/** Warnings that are errors of `--check`: the operator meant a variable that does not exist. */
const CHECKED_EVENTS: ReadonlySet<string> = new Set<ConfigWarning['event']>([
  'unknown_variable',
  'renamed_variable',
]);

const OPTIONS = {
  check: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  sidecar: { type: 'boolean', default: false },
} as const;

interface Warning {
  readonly event: string;
  readonly message: string;
}

/** What is printed about one program. */
interface Report {
  readonly settings: readonly Setting[];
  readonly warnings: readonly Warning[];
  /** Sentences for the operator. */
  readonly errors: readonly string[];
}

/**
 * Prints the configuration in the environment of this process, or all its errors.
 *
 * @returns the exit code
 * @throws UsageError
 */
export function configCommand(args: readonly string[]): number {
  const { values: options, positionals } = parseArguments(args, OPTIONS);
  if (positionals.length > 0) throw new UsageError('it takes no words');
  const reports = readReports(process.env, options);
  const all = [...reports.values()];
  const errors = all.flatMap((report) => report.errors);
  const warnings = all.flatMap((report) => report.warnings);
  const isInvalid = errors.length > 0;
  if (options.json) process.stdout.write(`${JSON.stringify(Object.fromEntries(reports), null, 2)}\n`);
  else if (!options.check && !isInvalid) process.stdout.write(formatSettings(reports));
  if (!options.json) {
    for (const error of errors) process.stderr.write(`error: ${error}\n`);
    for (const { message } of warnings) process.stderr.write(`warning: ${message}\n`);
  }
  return isInvalid ? EXIT.badConfiguration : EXIT.ok;
}

type Options = Readonly<Record<keyof typeof OPTIONS, boolean>>;

/** The reports of the programs, by name. */
function readReports(environment: Environment, { check, sidecar }: Options): ReadonlyMap<string, Report> {
  const relay = readRelayConfig(environment, process.pid);
  const reports = new Map([['relay', reportOf(relay, check, capacityWarnings(relay))]]);
  if (sidecar || hasSidecarSettings(environment))
    reports.set('sidecar', reportOf(readSidecarConfig(environment), check));
  return reports;
}

/** The image and Kubernetes set variables for the sidecar, even in the container of a relay without one. */
function hasSidecarSettings(environment: Environment): boolean {
  return Object.entries(environment).some(
    ([name, value = '']) =>
      value !== '' &&
      name.startsWith('SIDECAR_') &&
      !isDeploymentDefault(name, value) &&
      !isServiceVariable(name, value),
  );
}

/** Warnings about settings that exceed the memory or the file descriptors of this process or container. */
function capacityWarnings(read: ConfigResult<RelayConfig>): readonly Warning[] {
  const warnings: Warning[] = [];
  if (read.kind === 'ok')
    resolveCapacity(read.config, { warn: ({ event }, message) => warnings.push({ event, message }) });
  return warnings;
}

/**
 * @param check unknown variables are errors
 * @param more further warnings
 */
function reportOf(read: ConfigResult<unknown>, check: boolean, more: readonly Warning[] = []): Report {
  const errors = read.kind === 'ok' ? [] : read.errors.map(formatConfigError);
  const isError = ({ event }: Warning): boolean => check && CHECKED_EVENTS.has(event);
  return {
    settings: read.settings,
    warnings: [...read.warnings.filter((warning) => !isError(warning)), ...more],
    errors: [...errors, ...read.warnings.filter(isError).map(({ message }) => message)],
  };
}

/** A line for each variable, like those of an environment file. */
function formatSettings(reports: ReadonlyMap<string, Report>): string {
  return [...reports]
    .map(([program, { settings }]) => [`# ${program}`, ...settings.map(formatSetting), ''].join('\n'))
    .join('\n');
}

function formatSetting({ variable, value, isDefault, file }: Setting): string {
  const where = file === null ? '' : `  (from ${file})`;
  return `${isDefault ? 'default' : 'set    '}  ${variable}=${value}${where}`;
}
