import { deepEqual, equal, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { COMPOSE_MARKER, COMPOSE_SETTINGS } from '../../../src/config/deployment.ts';
import { parseEndpoints } from '../../../src/config/endpoint.ts';
import type { ConfigResult, Environment } from '../../../src/config/environment.ts';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import { readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import { composeDefaults, programDefaults, read } from './deployment-settings.ts';

const PAGE = read('docs', 'configuration.md');

/** Defaults that depend on other variables, in words, and the one that must be set. */
const DEFAULTS_IN_WORDS: ReadonlyMap<string, string> = new Map([
  ['RELAY_ACME_STATE', 'the directory `acme` beside the usage database'],
  ['RELAY_QUOTA_STATE', 'the path of the usage database with `-quota.json` appended'],
  ['SIDECAR_LISTEN', '`tcp:4004:interface=127.0.0.1`, or `tcp:4004` with a token'],
  ['SIDECAR_USAGE_DB', 'none, required'],
]);

/** Variables that docker-compose.yml or the image sets, to match ports and volumes. The example leaves them out. */
const FIXED_BY_COMPOSE: ReadonlySet<string> = new Set([
  'RELAY_STATUS_LISTEN',
  'SIDECAR_LISTEN',
  'SIDECAR_RELAY_STATUS',
  'SIDECAR_SNAPSHOT_DIR',
]);

/** Settings with which every variable has an effect. */
const COMPLETE: Environment = {
  [COMPOSE_MARKER]: 'true',
  RELAY_USAGE_DB: '/data/usage.sqlite',
  RELAY_ACME_DOMAIN: 'relay.example.org',
  RELAY_ACME_AGREE: 'true',
  RELAY_CLUSTER_URL: 'redis://10.0.0.2',
  RELAY_CLUSTER_SECRET: 'x'.repeat(32),
  SIDECAR_USAGE_DB: '/relay/usage.sqlite',
};

interface Entry {
  readonly defaults: string;
  readonly accepts: string;
  readonly text: string;
}

/** The entries of the page by variable. */
function entries(): ReadonlyMap<string, Entry> {
  return new Map(
    PAGE.split(/^#{2,} /mu)
      .filter((section) => /^[A-Z]+_[A-Z_]+\n/u.test(section))
      .map((section) => {
        const [variable = '', head = '', ...text] = section.trim().split('\n\n');
        const [defaults = '', accepts = ''] = head.split(/\nAccepts: /u);
        return [variable, { defaults, accepts, text: text.join('\n\n') }];
      }),
  );
}

function codeSpans(text: string): readonly string[] {
  return [...text.matchAll(/`([^`]+)`/gu)].map(([, span = '']) => span);
}

function inCode(value: string): string {
  return value === '' ? 'none' : `\`${value}\``;
}

function readProgram(variable: string, environment: Environment): ConfigResult<unknown> {
  return variable.startsWith('RELAY_') ? readRelayConfig(environment, 1) : readSidecarConfig(environment);
}

describe('docs/configuration.md', () => {
  test('has an entry for each variable, with its defaults', () => {
    const programs = [...programDefaults()].map(([variable, { code, image, compose }]) => {
      const others = [
        ...(image === null ? [] : [` In the image: ${inCode(image)}.`]),
        ...(compose === null ? [] : [` In Compose: ${inCode(compose)}.`]),
      ];
      return [variable, `Default: ${DEFAULTS_IN_WORDS.get(variable) ?? inCode(code)}.${others.join('')}`];
    });
    const compose = [...composeDefaults()].map(([variable, value]) => [
      variable,
      `Default: ${inCode(value)}.`,
    ]);
    const documented = [...entries()].map(([variable, { defaults }]) => [variable, defaults]);
    deepEqual(Object.fromEntries(documented), Object.fromEntries([...programs, ...compose]));
    equal(PAGE.match(/^### [A-Z]+_[A-Z_]+$/gmu)?.length, documented.length, 'a variable is there twice');
  });

  test('says what each variable accepts and does', () => {
    for (const [variable, { accepts, text }] of entries()) {
      ok(accepts.endsWith('.'), variable);
      ok(text.length > 20, variable);
    }
  });

  test('has examples that the programs accept', () => {
    const programs = programDefaults();
    let examples = 0;
    for (const [variable, { accepts }] of entries()) {
      if (!programs.has(variable)) continue;
      for (const value of codeSpans(accepts)) {
        examples += 1;
        const result = readProgram(variable, { ...COMPLETE, [variable]: value });
        equal(result.kind, 'ok', `${variable}=${value}: ${JSON.stringify(result)}`);
      }
    }
    ok(examples > 50, `${examples} examples`);
  });

  test('has examples of endpoints that the programs accept', () => {
    const [, section = ''] = /^### Endpoints$(.*?)^## /msu.exec(PAGE) ?? [];
    const cells = [...section.matchAll(/^\| (`[^|]+) \|/gmu)].map(([, cell = '']) => cell);
    ok(cells.length > 5, `${cells.length} rows`);
    for (const span of cells.flatMap(codeSpans)) equal(parseEndpoints(span).length, 1, span);
  });
});

describe('deploy/compose/.env.example', () => {
  test('has each variable with its default', () => {
    const example = [
      ...read('deploy', 'compose', '.env.example').matchAll(/^#(?<name>[A-Z_]+)=(?<value>.*)$/gmu),
    ].map(({ groups = {} }) => [groups['name'] ?? '', groups['value'] ?? ''] as const);
    const programs = [...programDefaults()]
      .filter(([variable]) => !FIXED_BY_COMPOSE.has(variable))
      .map(([variable, { code, image, compose }]) => [variable, compose ?? image ?? code]);
    // Passed through, as an example of all variables with `_FILE`.
    const expected = [...programs, ...composeDefaults(), ['SIDECAR_TOKEN_FILE', '']];
    deepEqual(Object.fromEntries(example), Object.fromEntries(expected));
    equal(example.length, expected.length, 'a variable is there twice');
  });
});

describe('the settings of compose', () => {
  test('are known to the programs, which get them from the .env file', () => {
    const names = [...composeDefaults().keys()].filter((name) => /^(?:RELAY|SIDECAR)_/u.test(name));
    deepEqual([...COMPOSE_SETTINGS.keys()].toSorted(), names.toSorted());
  });
});
