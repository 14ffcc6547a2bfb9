import envVar from 'env-var';
import { closest } from 'fastest-levenshtein';

/** A value that can't be used, with what could be. */
export interface ConfigError {
  readonly variable: string;
  readonly value: string;
  /** What is wrong with it; null where what is accepted says it all. */
  readonly problem: string | null;
  readonly accepted: string;
}

/** A configuration, or what is wrong with it. */
export type ConfigResult<T> =
  | { readonly kind: 'ok'; readonly config: T; readonly warnings: readonly string[] }
  | {
      readonly kind: 'errors';
      readonly errors: readonly ConfigError[];
      readonly warnings: readonly string[];
    };

/** The sentence an operator reads. */
export function formatConfigError(error: ConfigError): string {
  const problem = error.problem === null ? '' : `: ${error.problem}`;
  return `${error.variable}=${JSON.stringify(error.value)} can't be used${problem}. Accepted: ${error.accepted}.`;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Says what is wrong with a value, and what would be right. */
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
  /** What all variables of the program begin with. */
  readonly prefix: string;
  /** Every variable there is, with what it is when the environment does not say. An empty value means off. */
  readonly defaults: Readonly<Record<Variable, string>>;
  /** Their values are not shown to anybody. */
  readonly secrets?: readonly NoInfer<Variable>[];
  /** Reads the file that a `…_FILE` variable names. Throws an Error with a sentence where it can't be read. */
  readonly readFile: (path: string) => string;
}

/** Follows a variable's name when it is the path of a file that has the value. */
const FILE_SUFFIX = '_FILE';

/** A value that begins and ends with the same quotation mark. */
const QUOTED = /^(["']).*\1$/su;

const QUOTED_PROBLEM =
  'it begins and ends with a quotation mark, which is part of the value here (docker run --env-file keeps quotation marks, compose removes them)';

const UNQUOTED_GRAMMAR = 'the value without quotation marks around it';

interface RawValue {
  readonly text: string;
  readonly isFromFile: boolean;
}

/** Reads variables one after the other and keeps what is wrong with them, so that all of it can be told at once. */
export class EnvironmentReader<Variable extends string> {
  readonly errors: ConfigError[] = [];
  readonly warnings: string[];
  readonly #environment: Environment;
  readonly #options: EnvironmentOptions<Variable>;

  constructor(environment: Environment, options: EnvironmentOptions<Variable>) {
    this.#environment = environment;
    this.#options = options;
    this.warnings = unknownVariables(environment, options.prefix, Object.keys(options.defaults));
    this.#rejectQuotedValues();
  }

  /**
   * The value as `parse` reads it, which throws a Refusal where it can't. `whenOff` where it is empty, or wrong.
   *
   * @param whenUnset what it is when the environment does not say, where that hangs on other variables
   */
  read<T>(
    variable: Variable,
    whenOff: T,
    parse: (text: string) => T,
    whenUnset: string = this.#options.defaults[variable],
  ): T {
    const { text, isFromFile } = this.#readRaw(variable, whenUnset);
    if (text === '') return whenOff;
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof InvalidValue)) throw error;
      this.addError(variable, text, error, isFromFile);
      return whenOff;
    }
  }

  /** Adds a fault, unless the variable has one. A secret's value is left out, and so is what a file contains. */
  addError(variable: Variable, text: string, { problem, accepted }: InvalidValue, isFromFile = false): void {
    const isRefused = (name: string): boolean => name === variable || name === variable + FILE_SUFFIX;
    if (this.errors.some((fault) => isRefused(fault.variable))) return;
    if (isFromFile) {
      const name = variable + FILE_SUFFIX;
      // What is wrong in detail would quote it.
      const inside = 'what is in that file is wrong';
      this.errors.push({ variable: name, value: this.#get(name)?.trim() ?? '', problem: inside, accepted });
      return;
    }
    const value = this.#isSecret(variable) && text !== '' ? '(secret)' : text;
    this.errors.push({ variable, value, problem, accepted });
  }

  /**
   * Adds a fault for each value in quotation marks, also of variables that are not used. `docker run --env-file` keeps quotation
   * marks; compose and shells remove them. The same line would give two relays two different secrets.
   */
  #rejectQuotedValues(): void {
    for (const variable in this.#options.defaults) {
      for (const name of [variable, variable + FILE_SUFFIX]) {
        const text = this.#get(name)?.trim() ?? '';
        if (!QUOTED.test(text)) continue;
        const value = name === variable && this.#isSecret(variable) ? '(secret)' : text;
        this.errors.push({ variable: name, value, problem: QUOTED_PROBLEM, accepted: UNQUOTED_GRAMMAR });
      }
    }
  }

  /** True for a variable that is set, itself or by a file, to whatever. */
  isSet(variable: Variable): boolean {
    return [variable, variable + FILE_SUFFIX].some((name) => (this.#get(name)?.trim() ?? '') !== '');
  }

  #isSecret(variable: Variable): boolean {
    return this.#options.secrets?.includes(variable) ?? false;
  }

  #readRaw(variable: Variable, whenUnset: string): RawValue {
    const path = this.#get(variable + FILE_SUFFIX)?.trim() ?? '';
    // The constructor has added the fault.
    if (QUOTED.test(path)) return { text: '', isFromFile: true };
    if (path !== '') {
      try {
        const text = this.#options.readFile(path).trim();
        // Nobody names a file in order to do without a secret; it has not been filled yet, or no longer is.
        if (text === '' && this.#isSecret(variable)) throw new Error('there is nothing in it');
        return { text, isFromFile: true };
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        const accepted = 'the path of a readable file that holds the value';
        this.errors.push({ variable: variable + FILE_SUFFIX, value: path, problem: error.message, accepted });
        return { text: '', isFromFile: true };
      }
    }
    // env-var's own default does not apply to a variable that is set to nothing, which is our "off".
    const text = (this.#get(variable) ?? whenUnset).trim();
    return { text: QUOTED.test(text) ? '' : text, isFromFile: false };
  }

  #get(name: string): string | undefined {
    return envVar.from(this.#environment).get(name).asString();
  }
}

function unknownVariables(environment: Environment, prefix: string, variables: readonly string[]): string[] {
  const known = new Set([...variables, ...variables.map((variable) => variable + FILE_SUFFIX)]);
  return Object.keys(environment)
    .filter((name) => name.startsWith(prefix) && !known.has(name))
    .map(
      (name) =>
        `${name} is not known and does nothing; the nearest known variable is ${nearest(name, variables, prefix)}`,
    );
}

/** A name that was cut short or drawn out is nearer to its origin than letters alone can tell. */
function nearest(name: string, known: readonly string[], prefix: string): string {
  const stems = [
    known.filter((candidate) => candidate.startsWith(name) || name.startsWith(candidate)),
    known.filter((candidate) => name.includes(candidate.slice(prefix.length))),
    known,
  ];
  return closest(name, stems.find((candidates) => candidates.length > 0) ?? known);
}
