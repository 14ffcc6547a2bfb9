import { deepEqual, equal, throws } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { UsageError, parseArguments, similarTo } from '../../../src/cli/arguments.ts';

const OPTIONS = {
  json: { type: 'boolean', default: false },
  timeout: { type: 'string', default: '10s' },
} as const;

describe('parseArguments', () => {
  test('returns options and words', () => {
    const { values, positionals } = parseArguments(['a', '--json', '--timeout=1s', '--', '--b'], OPTIONS);
    deepEqual([{ ...values }, positionals], [{ json: true, timeout: '1s' }, ['a', '--b']]);
  });

  for (const [args, message] of [
    [['--jsn'], 'unknown option --jsn; the most similar one is --json'],
    [['--jsn=1'], 'unknown option --jsn; the most similar one is --json'],
    [['--no-such-thing'], 'unknown option --no-such-thing'],
    [['-x'], 'unknown option -x'],
    [['--timeout'], 'option --timeout needs a value'],
    [['--timeout', '--json'], 'option --timeout needs a value'],
    [['--json=yes'], 'option --json takes no value'],
  ] as const) {
    test(`rejects ${args.join(' ')}`, () => {
      throws(
        () => parseArguments(args, OPTIONS),
        (error) => error instanceof UsageError && error.message === message,
      );
    });
  }

  test('knows that no options are known', () => {
    throws(() => parseArguments(['--json'], {}), new UsageError('unknown option --json'));
  });
});

describe('similarTo', () => {
  const words = ['serve', 'sidecar', 'healthcheck', 'import', 'check'];
  for (const [word, nearest] of [
    ['serv', 'serve'],
    ['sreve', 'serve'],
    ['sidcar', 'sidecar'],
    ['helthchek', 'healthcheck'],
    ['health-check', 'healthcheck'],
    ['chekc', 'check'],
  ]) {
    test(`names ${nearest} for ${word}`, () => {
      equal(similarTo(word ?? '', words), `; the most similar one is ${nearest}`);
    });
  }

  for (const word of ['', 'x', 'dashboard', 'restart', 'tcp:4001']) {
    test(`names nothing for ${JSON.stringify(word)}`, () => {
      equal(similarTo(word, words), '');
    });
  }
});
