import envVar from 'env-var';
import { closest } from 'fastest-levenshtein';
import { ENDPOINT_GRAMMAR, EndpointError, parseEndpoints } from '../net/endpoint.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { LOG_LEVELS } from './config.ts';
import type { Config, Fault, LogLevel } from './config.ts';
import { DURATION_GRAMMAR, SIZE_GRAMMAR, parseDurationMs, parseSizeBytes } from './units.ts';

const PREFIX = 'RELAY_';

/** Every variable there is, with what it is when the environment does not say. An empty value means off. */
export const DEFAULTS = {
  RELAY_LISTEN: 'tcp:4001',
  RELAY_WEBSOCKET_LISTEN: '',
  RELAY_STATUS_LISTEN: 'tcp:4003:interface=127.0.0.1',
  RELAY_USAGE_DB: '',
  RELAY_LOG_FD: '',
  RELAY_BLUR_USAGE: '0',
  RELAY_LOG_LEVEL: 'info',
  RELAY_BUFFER_MEMORY: '64MiB',
  RELAY_DRAIN_TIMEOUT: '10s',
} as const;

const CLIENT_LISTENERS: ReadonlySet<string> = new Set(['RELAY_LISTEN', 'RELAY_WEBSOCKET_LISTEN']);

type Variable = keyof typeof DEFAULTS;
type Environment = Readonly<Record<string, string | undefined>>;

export type ReadResult =
  | { readonly kind: 'ok'; readonly config: Config; readonly warnings: readonly string[] }
  | { readonly kind: 'faults'; readonly faults: readonly Fault[]; readonly warnings: readonly string[] };

/** Says what is wrong with a value, and what would be right. */
class Refusal extends Error {
  readonly accepted: string;
  readonly problem: string | null;

  constructor(accepted: string, problem: string | null = null) {
    super(accepted);
    this.accepted = accepted;
    this.problem = problem;
  }
}

/**
 * Reads the configuration from the environment. Pure: nothing is opened or looked up.
 *
 * All faults are found in one go. Variables that look like ours and are not known are warnings.
 */
export function readEnv(environment: Environment): ReadResult {
  const env = envVar.from(environment);
  const faults: Fault[] = [];

  function read<T>(variable: Variable, whenOff: T, parse: (text: string) => T): T {
    // env-var's own default does not apply to a variable that is set to nothing, which is our "off".
    const text = (env.get(variable).asString() ?? DEFAULTS[variable]).trim();
    if (text === '') return whenOff;
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      faults.push({ variable, value: text, problem: error.problem, accepted: error.accepted });
      return whenOff;
    }
  }

  const config: Config = {
    listen: {
      raw: read('RELAY_LISTEN', [], toEndpoints),
      websocket: read('RELAY_WEBSOCKET_LISTEN', [], toEndpoints),
      status: read('RELAY_STATUS_LISTEN', [], toEndpoints),
    },
    usage: {
      databasePath: read<string | null>('RELAY_USAGE_DB', null, (text) => text),
      logFd: read<number | null>('RELAY_LOG_FD', null, toFileDescriptor),
      blurSeconds: read('RELAY_BLUR_USAGE', 0, toBlurSeconds),
    },
    logLevel: read<LogLevel>('RELAY_LOG_LEVEL', 'silent', toLogLevel),
    bufferMemoryBytes: read('RELAY_BUFFER_MEMORY', 0, toSizeBytes),
    drainTimeoutMs: read('RELAY_DRAIN_TIMEOUT', 0, toDurationMs),
  };

  const listensNowhere = config.listen.raw.length + config.listen.websocket.length === 0;
  if (listensNowhere && !faults.some(({ variable }) => CLIENT_LISTENERS.has(variable))) {
    faults.push({
      variable: 'RELAY_LISTEN',
      value: '',
      problem: 'RELAY_WEBSOCKET_LISTEN is empty too, so that no client could come',
      accepted: `${ENDPOINT_GRAMMAR}, in one of the two`,
    });
  }
  const warnings = unknownVariables(environment);
  return faults.length > 0 ? { kind: 'faults', faults, warnings } : { kind: 'ok', config, warnings };
}

function unknownVariables(environment: Environment): string[] {
  const known = Object.keys(DEFAULTS);
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && !known.includes(name))
    .map(
      (name) =>
        `${name} is not known and does nothing; the nearest known variable is ${nearest(name, known)}`,
    );
}

/** A name that was cut short or drawn out is nearer to its origin than letters alone can tell. */
function nearest(name: string, known: readonly string[]): string {
  const stems = [
    known.filter((candidate) => candidate.startsWith(name) || name.startsWith(candidate)),
    known.filter((candidate) => name.includes(candidate.slice(PREFIX.length))),
    known,
  ];
  return closest(name, stems.find((candidates) => candidates.length > 0) ?? known);
}

function toEndpoints(text: string): Endpoint[] {
  try {
    return parseEndpoints(text);
  } catch (error) {
    if (error instanceof EndpointError) throw new Refusal(ENDPOINT_GRAMMAR, error.message);
    throw error;
  }
}

function toFileDescriptor(text: string): number {
  const fd = Number(text);
  if (/^\d{1,6}$/u.test(text) && fd > 0) return fd;
  throw new Refusal('the number of an open file descriptor, from 1');
}

function toBlurSeconds(text: string): number {
  if (/^\d{1,9}$/u.test(text)) return Number(text);
  throw new Refusal('whole seconds from 0 (exact records) to 999999999');
}

function toLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text.toLowerCase());
  if (level !== undefined) return level;
  throw new Refusal(`one of ${LOG_LEVELS.join(', ')}`);
}

function toDurationMs(text: string): number {
  const ms = parseDurationMs(text);
  if (ms !== null) return ms;
  throw new Refusal(DURATION_GRAMMAR);
}

function toSizeBytes(text: string): number {
  const bytes = parseSizeBytes(text);
  if (bytes !== null) return bytes;
  throw new Refusal(SIZE_GRAMMAR);
}
