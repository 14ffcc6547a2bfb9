import { parseArgs } from 'node:util';
import { DEPLOYMENT_DEFAULTS } from '../config/deployment.ts';
import { formatConfigError } from '../config/environment.ts';
import type { ConfigResult, ConfigWarning, Environment, Setting } from '../config/environment.ts';
import { readRelayConfig } from '../config/relay-config.ts';
import { readSidecarConfig } from '../config/sidecar-config.ts';

/** Exit codes of sysexits.h. */
const EXIT = { ok: 0, usage: 64, badConfiguration: 78 } as const;

const USAGE = `usage: transit-relay config [--check] [--json] [--sidecar]
Prints each variable with its value, and whether it is set. It shows no secrets.
  --check    print nothing but problems; unknown variables are errors
  --json     print JSON
  --sidecar  include the sidecar, even if none of its variables is set
Exit code 78 if the configuration is invalid.
`;

/** Warnings that are errors of `--check`: the operator meant a variable that does not exist. */
const CHECKED_EVENTS: ReadonlySet<ConfigWarning['event']> = new Set(['unknown_variable', 'renamed_variable']);

const OPTIONS = {
  check: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  sidecar: { type: 'boolean', default: false },
} as const;

/** What is printed about one program. */
interface Report {
  readonly settings: readonly Setting[];
  readonly warnings: readonly ConfigWarning[];
  /** Sentences for the operator. */
  readonly errors: readonly string[];
}

/** Prints the configuration in the environment of this process, or all its errors. Resolves with the exit code. */
export function configCommand(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === null) {
    process.stderr.write(USAGE);
    return Promise.resolve(EXIT.usage);
  }
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
  return Promise.resolve(isInvalid ? EXIT.badConfiguration : EXIT.ok);
}

type Options = Readonly<Record<keyof typeof OPTIONS, boolean>>;

/** Null if the arguments are invalid. */
function parseOptions(args: readonly string[]): Options | null {
  try {
    return parseArgs({ args: [...args], options: OPTIONS }).values;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

/** The reports of the programs, by name. */
function readReports(environment: Environment, { check, sidecar }: Options): ReadonlyMap<string, Report> {
  const reports = new Map([['relay', reportOf(readRelayConfig(environment, process.pid), check)]]);
  if (sidecar || hasSidecarSettings(environment))
    reports.set('sidecar', reportOf(readSidecarConfig(environment), check));
  return reports;
}

/** The image has variables for the sidecar, even in the container of a relay without one. */
function hasSidecarSettings(environment: Environment): boolean {
  return Object.entries(environment).some(
    ([name, value = '']) =>
      name.startsWith('SIDECAR_') && !(DEPLOYMENT_DEFAULTS.get(name)?.includes(value) ?? false),
  );
}

/** @param check unknown variables are errors */
function reportOf(read: ConfigResult<unknown>, check: boolean): Report {
  const errors = read.kind === 'ok' ? [] : read.errors.map(formatConfigError);
  const isError = ({ event }: ConfigWarning): boolean => check && CHECKED_EVENTS.has(event);
  return {
    settings: read.settings,
    warnings: read.warnings.filter((warning) => !isError(warning)),
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
