import { closeSync, openSync, readSync } from 'node:fs';
import envVar from 'env-var';
import { errorCode } from '../process/errors.ts';
import { isDeploymentDefault } from './deployment.ts';
import { FILE_SUFFIX, findUnknownVariables } from './unknown-variables.ts';

/** An invalid value, and what is accepted instead. */
export interface ConfigError {
  readonly variable: string;
  readonly value: string;
  /** The problem; null if the accepted form explains it. */
  readonly problem: string | null;
  readonly accepted: string;
}

/** A setting that is accepted but probably not what the operator wants. */
export interface ConfigWarning {
  /** Stable name for log searches and alerts. */
  readonly event: 'unknown_variable' | 'renamed_variable' | 'setting_without_effect' | 'insecure_setting';
  /** A sentence for the operator. It contains no secrets. */
  readonly message: string;
}

/** A variable and its value in force. */
export interface Setting {
  readonly variable: string;
  /** The value as set, or the default. Secrets are `(secret)`. */
  readonly value: string;
  /** It is not set, or set to its default. */
  readonly isDefault: boolean;
  /** The file with the value, from the `…_FILE` variable; null: the value is not in a file. */
  readonly file: string | null;
}

/** What an operator should know about a configuration. */
export interface ConfigReport {
  readonly warnings: readonly ConfigWarning[];
  /** All variables, in the order of the defaults. */
  readonly settings: readonly Setting[];
}

/** The values of settings that are not defaults, by variable. For the log. */
export function changedSettings(settings: readonly Setting[]): Readonly<Record<string, string>> {
  const changed = settings.filter(({ isDefault }) => !isDefault);
  return Object.fromEntries(changed.map(({ variable, value }) => [variable, value]));
}

/** A configuration, or all errors in it. */
export type ConfigResult<T> = ConfigReport &
  (
    | { readonly kind: 'ok'; readonly config: T }
    | { readonly kind: 'errors'; readonly errors: readonly ConfigError[] }
  );

/** Formats an error as a sentence for the operator. */
export function formatConfigError(error: ConfigError): string {
  const problem = error.problem === null ? '' : `: ${error.problem}`;
  return `${error.variable}=${JSON.stringify(error.value)} can't be used${problem}. Accepted: ${error.accepted}.`;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Thrown by value parsers, with the accepted form and optionally the problem. */
export class InvalidValue extends Error {
  readonly accepted: string;
  readonly problem: string | null;

  constructor(accepted: string, problem: string | null = null) {
    super(accepted);
    this.accepted = accepted;
    this.problem = problem;
  }
}

export interface EnvironmentOptions<Variable extends string> {
  /** Prefix of all variables of the program. */
  readonly prefix: string;
  /** All variables with their defaults. An empty value means off. */
  readonly defaults: Readonly<Record<Variable, string>>;
  /** Variables whose values are never shown. */
  readonly secrets?: readonly NoInfer<Variable>[];
  /** Reads the file that a `…_FILE` variable names, like `readSecretFile`, which is the default. */
  readonly readFile?: (path: string) => string;
}

/** Matches a value that begins and ends with the same quotation mark. */
const QUOTED = /^(["']).*\1$/su;

const QUOTED_PROBLEM =
  'it begins and ends with a quotation mark, which is part of the value here (docker run --env-file keeps quotation marks, compose removes them)';

const UNQUOTED_GRAMMAR = 'the value without quotation marks around it';

/** Reads variables and collects all errors, so that they are reported together. */
export class EnvironmentReader<Variable extends string> {
  readonly errors: ConfigError[] = [];
  readonly warnings: ConfigWarning[];
  readonly #environment: Environment;
  readonly #options: EnvironmentOptions<Variable>;
  /** Values in force of the variables that were read, and their defaults. */
  readonly #values = new Map<Variable, { readonly text: string; readonly whenUnset: string }>();

  constructor(environment: Environment, options: EnvironmentOptions<Variable>) {
    this.#environment = environment;
    this.#options = options;
    this.warnings = findUnknownVariables(environment, options.prefix, Object.keys(options.defaults));
    this.#warnAboutOverriddenValues();
    this.#rejectQuotedValues();
  }

  /**
   * Returns the value parsed by `parse`, which throws an InvalidValue on errors; `whenOff` if the value is
   * empty or invalid.
   *
   * @param whenUnset the default value, if it depends on other variables
   */
  read<T, Off>(
    variable: Variable,
    whenOff: Off,
    parse: (text: string) => T,
    whenUnset: string = this.#options.defaults[variable],
  ): T | Off {
    const text = this.#readText(variable) ?? whenUnset;
    this.#values.set(variable, { text, whenUnset });
    if (text === '') return whenOff;
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error;
      this.#addInvalid(variable, text, error);
      return whenOff;
    }
  }

  /** All settings. Call it after the variables were read. */
  get settings(): readonly Setting[] {
    return this.#variables.map((variable) => this.#settingOf(variable));
  }

  get #variables(): readonly Variable[] {
    return Object.keys(this.#options.defaults).filter((name) => this.#isVariable(name));
  }

  #isVariable(name: string): name is Variable {
    return Object.hasOwn(this.#options.defaults, name);
  }

  #settingOf(variable: Variable): Setting {
    const [, path] = this.#fileOf(variable);
    const file = path === '' ? null : path;
    const whenUnset = this.#options.defaults[variable];
    // Variables that are not in use were not read, and neither were their files.
    const unread = { text: file === null ? (this.#get(variable) ?? whenUnset) : '(not read)', whenUnset };
    const { text, whenUnset: standard } = this.#values.get(variable) ?? unread;
    return { variable, value: this.#shown(variable, text, file), isDefault: text === standard, file };
  }

  /** Hides secrets, and the content of invalid files, which may be other files than those that were meant. */
  #shown(variable: Variable, text: string, file: string | null): string {
    if (text !== '' && this.#isSecret(variable)) return '(secret)';
    return file !== null && this.hasError(variable) ? '(invalid)' : text;
  }

  /** True if the variable has a value other than its default. Empty is no value. */
  isChanged(variable: Variable): boolean {
    const { value, isDefault } = this.#settingOf(variable);
    return !isDefault && value !== '';
  }

  /** Adds a warning that a variable has no effect, if it was changed and is valid. */
  warnUnused(variable: Variable, reason: string): void {
    if (!this.isChanged(variable) || this.hasError(variable)) return;
    const message = `${variable} has no effect because ${reason}`;
    this.warnings.push({ event: 'setting_without_effect', message });
  }

  /** True if the variable or its `…_FILE` variant has an error. */
  hasError(variable: Variable): boolean {
    return this.errors.some(({ variable: name }) => name === variable || name === variable + FILE_SUFFIX);
  }

  /** Adds an error for an empty value, unless the variable has one already. */
  rejectEmpty(variable: Variable, accepted: string, problem: string): void {
    if (!this.hasError(variable)) this.errors.push({ variable, value: '', problem, accepted });
  }

  /** A value in a file takes precedence over one in the environment. */
  #warnAboutOverriddenValues(): void {
    for (const variable of this.#variables) {
      const text = this.#get(variable) ?? '';
      const [name, path] = this.#fileOf(variable);
      const isGiven = text !== '' && text !== this.#options.defaults[variable];
      if (path === '' || !isGiven || isDeploymentDefault(variable, text)) continue;
      const message = `${variable} has no effect because ${name} is set`;
      this.warnings.push({ event: 'setting_without_effect', message });
    }
  }

  /**
   * Adds an error for each value in quotation marks, even of unused variables. `docker run --env-file` keeps
   * quotation marks; compose and shells remove them. So the same line could give two relays different
   * secrets.
   */
  #rejectQuotedValues(): void {
    for (const variable of this.#variables) {
      for (const name of [variable, variable + FILE_SUFFIX]) {
        const text = this.#get(name) ?? '';
        if (!QUOTED.test(text)) continue;
        const value = name === variable && this.#isSecret(variable) ? '(secret)' : text;
        this.errors.push({ variable: name, value, problem: QUOTED_PROBLEM, accepted: UNQUOTED_GRAMMAR });
      }
    }
  }

  /** Adds an error that does not show secrets or the content of files, unless the variable has one already. */
  #addInvalid(variable: Variable, text: string, { problem, accepted }: InvalidValue): void {
    if (this.hasError(variable)) return;
    const [name, path] = this.#fileOf(variable);
    if (path === '') {
      const value = this.#isSecret(variable) ? '(secret)' : text;
      this.errors.push({ variable, value, problem, accepted });
    } else {
      // A detailed problem would quote the content.
      const inFile = 'the content of that file is invalid';
      this.errors.push({ variable: name, value: path, problem: inFile, accepted });
    }
  }

  #isSecret(variable: Variable): boolean {
    return this.#options.secrets?.includes(variable) ?? false;
  }

  /** The value without surrounding blanks; undefined if it is not set. After an error, it is empty. */
  #readText(variable: Variable): string | undefined {
    const [name, path] = this.#fileOf(variable);
    if (path === '') {
      // env-var also uses its default for an empty variable, but here an empty value means off.
      const text = this.#get(variable);
      return text !== undefined && QUOTED.test(text) ? '' : text;
    }
    // The constructor has added the error.
    if (QUOTED.test(path)) return '';
    try {
      const text = (this.#options.readFile ?? readSecretFile)(path).trim();
      // An empty secret file is a mistake: it was not filled yet, or was emptied.
      if (text === '' && this.#isSecret(variable)) throw new Error('it is empty');
      return text;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const accepted = 'the path of a readable file with the value';
      this.errors.push({ variable: name, value: path, problem: error.message, accepted });
      return '';
    }
  }

  /** The `…_FILE` variant of a variable, and the path in it; empty: the value is not in a file. */
  #fileOf(variable: Variable): [name: string, path: string] {
    const name = variable + FILE_SUFFIX;
    return [name, this.#get(name) ?? ''];
  }

  #get(name: string): string | undefined {
    return envVar.from(this.#environment).get(name).asString()?.trim();
  }
}

/** Larger than any secret or list of endpoints, in bytes. */
const MAX_FILE_BYTES = 65_536;

const ERROR_REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a directory',
};

/**
 * Reads the file that a `…_FILE` variable names.
 *
 * @throws Error with a sentence for the operator
 */
export function readSecretFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readUpToLimit(path);
  } catch (error) {
    const code = errorCode(error);
    throw new Error(ERROR_REASONS[code] ?? `it can't be read (${code})`, { cause: error });
  }
  if (bytes.length > MAX_FILE_BYTES)
    throw new Error(`it is larger than ${MAX_FILE_BYTES} bytes, the maximum for a value`);
  return bytes.toString('utf8');
}

/** Reads at most one byte more than the limit: special files have no known size and may be endless. */
function readUpToLimit(path: string): Buffer {
  const buffer = Buffer.alloc(MAX_FILE_BYTES + 1);
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (;;) {
      const count = readSync(file, buffer, length, buffer.length - length, null);
      length += count;
      if (count === 0 || length === buffer.length) return buffer.subarray(0, length);
    }
  } finally {
    closeSync(file);
  }
}
