import { deepEqual, equal, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import type { Endpoint } from '../../../src/config/endpoint.ts';
import { findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { UNITS, environmentOf, examplesOf, settingsOf, valuesOf } from './units.ts';

const SERVICE = 'transit-relay.service';
const SOCKET = 'transit-relay.socket';

/** In tenths, from 0 to 100: Debian's web servers have 92. */
const MAX_EXPOSURE = 15;

const skip =
  findProgram('systemd-analyze') === null
    ? 'no "systemd-analyze": install the Debian package systemd'
    : false;

/** Output of systemd-analyze for our files, and its exit code. */
function analyze(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return status === 0 ? stderr : `exit code ${status}: ${stdout}${stderr}`;
}

function configOf(environment: Readonly<Record<string, string>>): RelayConfig {
  const read = readRelayConfig(environment, process.pid);
  deepEqual(read.warnings, []);
  ok(read.kind === 'ok', JSON.stringify(read));
  return read.config;
}

describe('the systemd units', () => {
  test('contain only settings that systemd knows', { skip }, async (context) => {
    const directory = await scratch(context);
    for (const unit of [SERVICE, SOCKET]) {
      const text = readFileSync(join(UNITS, unit), 'utf8');
      // It checks that the program exists; ours is in another directory.
      writeFileSync(join(directory, unit), text.replace('ExecStart=node ', `ExecStart=${process.execPath} `));
    }
    equal(analyze('verify', '--man=no', join(directory, SERVICE), join(directory, SOCKET)), '');
  });

  test('restrict the relay to what it needs', { skip }, () => {
    equal(analyze('security', '--offline=true', `--threshold=${MAX_EXPOSURE}`, join(UNITS, SERVICE)), '');
  });

  test('allow V8 to write machine code', () => {
    deepEqual(valuesOf(SERVICE, 'MemoryDenyWriteExecute'), []);
  });

  test('start the program directly, without a wrapper', () => {
    deepEqual(valuesOf(SERVICE, 'ExecStart'), ['node src/main.ts']);
  });

  test('leave enough time for a drain', () => {
    const { drain } = configOf(environmentOf(SERVICE));
    const stopMs = Number(valuesOf(SERVICE, 'TimeoutStopSec')[0]) * 1000;
    ok(stopMs >= drain.delayMs + drain.timeoutMs + 10_000, `${stopMs} ms`);
    deepEqual(valuesOf(SERVICE, 'KillMode'), ['mixed']);
  });

  test('restart the relay, except after a configuration error', () => {
    deepEqual(valuesOf(SERVICE, 'Restart'), ['on-failure']);
    deepEqual(valuesOf(SERVICE, 'RestartPreventExitStatus'), ['78']);
  });

  test('have a valid configuration, with a socket for each endpoint', () => {
    const { listen } = configOf(environmentOf(SERVICE));
    deepEqual(valuesOf(SOCKET, 'ListenStream'), ['4001', '4002']);
    deepEqual([...listen.raw, ...listen.websocket].map(indexOf), [0, 1]);
  });

  test('have valid examples of settings', () => {
    const examples = examplesOf('transit-relay.env');
    ok(examples.length >= 5);
    for (const [variable, value] of examples) {
      const config = configOf({ ...environmentOf(SERVICE), [variable]: value });
      if (variable !== 'RELAY_LISTEN') continue;
      // With the socket for TLS, which is commented out.
      deepEqual(config.listen.raw.map(indexOf), [0, 2]);
    }
    ok(examples.some(([variable]) => variable === 'RELAY_LISTEN'));
  });

  test('contain each setting once', () => {
    const names = settingsOf(SERVICE).map(([name]) => name);
    const repeated = names.filter((name, index) => names.indexOf(name) !== index);
    deepEqual(new Set(repeated), new Set(['Environment', 'SystemCallFilter']));
  });
});

function indexOf(endpoint: Endpoint): number | string {
  return endpoint.kind === 'systemd' ? endpoint.socket : endpoint.kind;
}
