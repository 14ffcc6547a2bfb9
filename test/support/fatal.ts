import assert from 'node:assert/strict';

/** Reasons of a failed start, from the last log line. Throws if its level is not `fatal`. */
export function fatalReasons(stdout: string): readonly string[] {
  const last: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.ok(typeof last === 'object' && last !== null, stdout);
  assert.ok('level' in last && last.level === 'fatal', stdout);
  assert.ok('reasons' in last && Array.isArray(last.reasons), stdout);
  return last.reasons.map(String);
}
