import { DURATION_GRAMMAR, SIZE_GRAMMAR, parseDurationMs, parseSizeBytes } from '../config/values.ts';
import { EXIT, UsageError, parseArguments } from './arguments.ts';
import { TestFailure, mailboxFailure, otherSchemeFailure } from './check/failure.ts';
import { testPair } from './check/pair-test.ts';
import type { PairResult, PairTestOptions } from './check/pair-test.ts';
import { TARGET_GRAMMAR, formatTarget, parseTarget } from './check/target.ts';
import type { Target } from './check/target.ts';

/** They make 36 tests. */
const MAX_TARGETS = 8;

/** Certificates are warned about below this. Authorities renew those of 90 days a month before. */
const WARN_DAYS = 14;

/** Time for another protocol that may be the right one, in milliseconds. */
const SUGGESTION_TIMEOUT_MS = 3000;

/** What may be at a port where a test has failed. Mailbox servers accept WebSockets at `/v1`. */
const CANDIDATES: readonly Pick<Target, 'scheme' | 'path'>[] = [
  { scheme: 'tcp', path: '/' },
  { scheme: 'ws', path: '/' },
  { scheme: 'ssl', path: '/' },
  { scheme: 'wss', path: '/' },
  { scheme: 'ws', path: '/v1' },
  { scheme: 'wss', path: '/v1' },
];

interface CheckOptions extends PairTestOptions {
  readonly targets: readonly Target[];
  readonly json: boolean;
}

/** One test: what was tested, and how it ended. */
interface Test {
  readonly from: Target;
  readonly to: Target;
  readonly outcome: PairResult | TestFailure;
}

/**
 * Pairs clients through each endpoint, and between each two of them, and prints a line for each.
 *
 * @returns the exit code
 * @throws UsageError
 */
export async function checkCommand(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  const { targets, json } = options;
  const tests: Test[] = [];
  const unusable = new Set<Target>();
  for (const [from, to] of pairsOf(targets)) {
    // The reason would be the same.
    if (unusable.has(from) || unusable.has(to)) continue;
    const test = { from, to, outcome: await runTest(from, to, options) };
    if (from === to && test.outcome instanceof TestFailure) unusable.add(from);
    tests.push(test);
    if (!json) process.stdout.write(`${formatTest(test)}\n`);
  }
  const isOk = tests.every(({ outcome }) => !(outcome instanceof TestFailure));
  if (json) process.stdout.write(`${JSON.stringify({ ok: isOk, tests: tests.map(reportOf) }, null, 2)}\n`);
  return isOk ? EXIT.ok : EXIT.failed;
}

function parseOptions(args: readonly string[]): CheckOptions {
  const { values, positionals } = parseArguments(args, {
    json: { type: 'boolean', default: false },
    insecure: { type: 'boolean', default: false },
    timeout: { type: 'string', default: '10s' },
    size: { type: 'string', default: '16MiB' },
  });
  if (positionals.length === 0) throw new UsageError(`an endpoint is needed: ${TARGET_GRAMMAR}`);
  const targets = new Map(positionals.map(parseTarget).map((target) => [formatTarget(target), target]));
  if (targets.size > MAX_TARGETS) throw new UsageError(`more than ${MAX_TARGETS} endpoints`);
  return {
    targets: [...targets.values()],
    json: values.json,
    insecure: values.insecure,
    timeoutMs: positive('timeout', values.timeout, parseDurationMs, DURATION_GRAMMAR),
    sizeBytes: positive('size', values.size, parseSizeBytes, SIZE_GRAMMAR),
  };
}

function positive(
  option: string,
  text: string,
  parse: (text: string) => number | null,
  accepted: string,
): number {
  const value = parse(text);
  if (value === null || value === 0)
    throw new UsageError(`--${option}=${JSON.stringify(text)} can't be used; accepted: ${accepted}`);
  return value;
}

/** Each target with itself, then each two. */
function pairsOf(targets: readonly Target[]): (readonly [Target, Target])[] {
  return [
    ...targets.map((target) => [target, target] as const),
    ...targets.flatMap((from, index) => targets.slice(index + 1).map((to) => [from, to] as const)),
  ];
}

async function runTest(
  from: Target,
  to: Target,
  options: PairTestOptions,
): Promise<PairResult | TestFailure> {
  const outcome = await outcomeOf(from, to, options);
  if (from !== to || !(outcome instanceof TestFailure) || !outcome.isWrongProtocol) return outcome;
  return await explain(outcome, from, options.timeoutMs);
}

async function outcomeOf(
  from: Target,
  to: Target,
  options: PairTestOptions,
): Promise<PairResult | TestFailure> {
  try {
    return await testPair(from, to, options);
  } catch (error) {
    if (error instanceof TestFailure) return error;
    throw error;
  }
}

/** Tries what else may be at the port. Returns a failure that names it, or the same one. */
async function explain(failure: TestFailure, target: Target, timeoutMs: number): Promise<TestFailure> {
  const { host, port } = target;
  const options = { timeoutMs: Math.min(timeoutMs, SUGGESTION_TIMEOUT_MS), sizeBytes: 0, insecure: true };
  const others = CANDIDATES.map(({ scheme, path }) => ({ scheme, host, port, path })).filter(
    (other) => formatTarget(other) !== formatTarget(target),
  );
  const attempts = await Promise.all(
    others.map(async (other) => ({ other, outcome: await outcomeOf(other, other, options) })),
  );
  const found = attempts.find(({ outcome }) => !(outcome instanceof TestFailure));
  if (found !== undefined) return otherSchemeFailure(failure, found.other);
  const isMailbox = attempts.some(
    ({ outcome }) => outcome instanceof TestFailure && outcome.code === 'mailbox',
  );
  return isMailbox ? mailboxFailure() : failure;
}

function nameOf({ from, to }: Test): string {
  return from === to ? formatTarget(from) : `${formatTarget(from)} to ${formatTarget(to)}`;
}

/** A line: result, what was tested, and the numbers or the failure. */
function formatTest(test: Test): string {
  const { outcome } = test;
  const name = nameOf(test);
  if (outcome instanceof TestFailure) return `failed  ${name}: ${outcome.message}`;
  const details = [
    `round trip ${outcome.roundTripMs.toFixed(1)} ms`,
    formatRate(outcome.bytesPerSecond),
    ...(test.from === test.to ? formatCertificate(outcome) : []),
  ];
  return `ok      ${name}: ${details.join(', ')}`;
}

function formatRate(bytesPerSecond: number): string {
  return bytesPerSecond >= 1e6
    ? `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`
    : `${(bytesPerSecond / 1e3).toFixed(1)} kB/s`;
}

function formatCertificate({ certificate }: PairResult): string[] {
  if (certificate === null) return [];
  const { days, problem } = certificate;
  if (problem !== null) return [`warning: ${problem}`];
  const unit = days === 1 ? 'day' : 'days';
  return [
    days < WARN_DAYS
      ? `warning: the certificate expires in ${days} ${unit}`
      : `certificate for ${days} ${unit}`,
  ];
}

/** A test as JSON. */
function reportOf({ from, to, outcome }: Test): Readonly<Record<string, unknown>> {
  const names = { from: formatTarget(from), to: formatTarget(to) };
  if (outcome instanceof TestFailure)
    return { ...names, result: 'failed', failure: { code: outcome.code, message: outcome.message } };
  const { certificate, roundTripMs, bytes, bytesPerSecond } = outcome;
  return {
    ...names,
    result: 'ok',
    round_trip_ms: Math.round(roundTripMs * 1000) / 1000,
    bytes,
    bytes_per_second: bytesPerSecond,
    ...(certificate === null || from !== to ? {} : { certificate }),
  };
}
