import assert from 'node:assert/strict';
import { formatConfigError } from '../../../src/config/environment.ts';
import type { ConfigError, ConfigResult } from '../../../src/config/environment.ts';

/** The configuration in a result without errors. */
export function configIn<T>(result: ConfigResult<T>): T {
  assert.ok(result.kind === 'ok', JSON.stringify(result));
  return result.config;
}

export function errorsIn(result: ConfigResult<unknown>): readonly ConfigError[] {
  assert.ok(result.kind === 'errors', 'there are errors');
  return result.errors;
}

/** Checks that an invalid value is the only error, and that the operator reads its name and what is accepted. */
export function assertOnlyError(
  result: ConfigResult<unknown>,
  variable: string,
  value: string,
  accepted: RegExp,
): void {
  const [error, ...others] = errorsIn(result);
  assert.deepEqual(others, []);
  assert.ok(error !== undefined);
  assert.deepEqual([error.variable, error.value], [variable, value]);
  assert.match(error.accepted, accepted);
  const sentence = formatConfigError(error);
  assert.ok(sentence.includes(variable) && sentence.includes(JSON.stringify(value)), sentence);
  assert.ok(sentence.includes(error.accepted), sentence);
}

/** A TCP endpoint without TLS, on all interfaces unless there is an address. */
export function tcp(port: number, address: string | null = null): object {
  return { kind: 'tcp', port, interface: address, backlog: null, tls: null };
}
