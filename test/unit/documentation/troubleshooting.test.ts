import { deepEqual, ok } from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PROBLEM_EVENTS } from '../../../src/process/problem-events.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');

const PAGE = readFileSync(join(ROOT, 'docs', 'troubleshooting.md'), 'utf8');

/** The sections of "Log messages": their headings and texts. */
function logMessages(): [event: string, text: string][] {
  const [, chapter = ''] = PAGE.split('\n## Log messages\n');
  return chapter
    .split(/^### /mu)
    .slice(1)
    .map((section) => {
      const [event = ''] = section.split('\n', 1);
      return [event, section.slice(event.length)];
    });
}

/** All source code, with concatenated strings joined. */
function readSources(): string {
  const files = globSync('src/**/*.ts', { cwd: ROOT });
  return files
    .map((file) => readFileSync(join(ROOT, file), 'utf8').replaceAll(/['`] \+\s*['`]/gu, ''))
    .join();
}

describe('docs/troubleshooting.md', () => {
  test('has one heading per event of level warn and above, in the order of the code', () => {
    deepEqual(
      logMessages().map(([event]) => event),
      PROBLEM_EVENTS,
    );
  });

  test('quotes the messages as they are logged', () => {
    const sources = readSources();
    for (const [event, text] of logMessages()) {
      const messages = [...text.matchAll(/^(?:Warning|Error|Fatal): `(.+)`$/gmu)].map(
        ([, quoted = '']) => quoted,
      );
      ok(messages.length > 0, `no message of ${event}`);
      // The parts of a message may be in different places.
      for (const part of messages.flatMap((message) => message.split(': ')))
        ok(sources.includes(part), `${event}: no source has "${part}"`);
    }
  });

  test('says what each message means', () => {
    for (const [event, text] of logMessages()) {
      const explanation = text.replaceAll(/^(?:Warning|Error|Fatal): .*$/gmu, '').trim();
      ok(explanation.length > 40, event);
    }
  });
});
