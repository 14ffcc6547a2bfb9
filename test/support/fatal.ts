import assert from 'node:assert/strict';

/** Why a program did not start, as the last line of its log says. Throws if that is no line of level `fatal`. */
export function fatalReasons(stdout: string): readonly string[] {
  const last: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
  assert.ok(typeof last === 'object' && last !== null, stdout);
  assert.ok('level' in last && last.level === 'fatal', stdout);
  assert.ok('reasons' in last && Array.isArray(last.reasons), stdout);
  return last.reasons.map(String);
}
