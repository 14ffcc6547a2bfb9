import { deepEqual, equal, ok } from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { RelayConfig } from '../../../src/config/relay-config.ts';
import { readRelayConfig } from '../../../src/config/relay-config.ts';
import { readSidecarConfig } from '../../../src/config/sidecar-config.ts';
import type { SidecarConfig } from '../../../src/config/sidecar-config.ts';
import type { Endpoint } from '../../../src/config/endpoint.ts';
import { findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { UNITS, environmentOf, examplesOf, paragraphsOf, settingsOf, valuesOf } from './units.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');

const SERVICE = 'transit-relay.service';
const SIDECAR = 'transit-relay-sidecar.service';
const SERVICES = [SERVICE, SIDECAR];
const SOCKET = 'transit-relay.socket';

const PAGE = readFileSync(join(ROOT, 'docs', 'systemd.md'), 'utf8');

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

function sidecarConfigOf(environment: Readonly<Record<string, string>>): SidecarConfig {
  const read = readSidecarConfig(environment);
  deepEqual(read.warnings, []);
  ok(read.kind === 'ok', JSON.stringify(read));
  return read.config;
}

describe('the systemd units', () => {
  test('contain only settings that systemd knows', { skip }, async (context) => {
    const directory = await scratch(context);
    const files = [...SERVICES, SOCKET].map((unit) => join(directory, unit));
    for (const unit of [...SERVICES, SOCKET]) {
      const text = readFileSync(join(UNITS, unit), 'utf8');
      // It checks that the program exists; ours is in another directory.
      writeFileSync(join(directory, unit), text.replace('ExecStart=node ', `ExecStart=${process.execPath} `));
    }
    equal(analyze('verify', '--man=no', ...files), '');
  });

  for (const service of SERVICES) {
    test(`restrict ${service} to what it needs`, { skip }, () => {
      equal(analyze('security', '--offline=true', `--threshold=${MAX_EXPOSURE}`, join(UNITS, service)), '');
    });

    test(`start the program of ${service} directly, without a wrapper, with the Node.js of the packages if there is one`, () => {
      const program = service === SERVICE ? 'src/main.ts' : 'src/sidecar/main.ts';
      const requireNode = './src/process/require-node.cjs';
      deepEqual(valuesOf(service, 'ExecStart'), [`node --require ${requireNode} ${program}`]);
      deepEqual(valuesOf(service, 'WorkingDirectory'), ['/opt/transit-relay']);
      for (const file of [requireNode, program]) ok(existsSync(join(ROOT, file)), file);
      deepEqual(valuesOf(service, 'ExecSearchPath'), [
        '/opt/transit-relay/node_modules/.bin:/usr/local/bin:/usr/bin',
      ]);
    });

    test(`restart ${service}, except after an error that a restart does not change`, () => {
      deepEqual(valuesOf(service, 'Restart'), ['on-failure']);
      deepEqual(valuesOf(service, 'RestartPreventExitStatus'), ['78 203']);
    });

    test(`contain each setting of ${service} once`, () => {
      const names = settingsOf(service).map(([name]) => name);
      const repeated = names.filter((name, index) => names.indexOf(name) !== index);
      deepEqual(new Set(repeated), new Set(['Environment', 'SystemCallFilter']));
    });
  }

  test('allow V8 to write machine code', () => {
    for (const service of SERVICES) deepEqual(valuesOf(service, 'MemoryDenyWriteExecute'), []);
  });

  test('leave enough time for a drain', () => {
    const { drain } = configOf(environmentOf(SERVICE));
    const stopMs = Number(valuesOf(SERVICE, 'TimeoutStopSec')[0]) * 1000;
    ok(stopMs >= drain.delayMs + drain.timeoutMs + 10_000, `${stopMs} ms`);
    deepEqual(valuesOf(SERVICE, 'KillMode'), ['mixed']);
  });

  test('have a valid configuration, with a socket for each endpoint', () => {
    const { listen } = configOf(environmentOf(SERVICE));
    deepEqual(valuesOf(SOCKET, 'ListenStream'), ['4001', '4002']);
    deepEqual([...listen.raw, ...listen.websocket].map(indexOf), [0, 1]);
  });

  test('have valid examples of settings', () => {
    const paragraphs = paragraphsOf('transit-relay.env').filter((examples) => examples.length > 0);
    ok(paragraphs.length >= 5);
    const listens: (number | string)[][] = [];
    for (const examples of paragraphs) {
      const config = configOf({ ...environmentOf(SERVICE), ...Object.fromEntries(examples) });
      if (examples.some(([variable]) => variable === 'RELAY_LISTEN'))
        listens.push(config.listen.raw.map(indexOf));
    }
    // With the socket for TLS, which is commented out: with certificate files, and by ACME.
    deepEqual(listens, [
      [0, 2],
      [0, 2],
    ]);
  });

  test('give the sidecar the database and the status port of the relay', () => {
    const environment = environmentOf(SIDECAR);
    const config = sidecarConfigOf(environment);
    equal(config.usageDatabasePath, environmentOf(SERVICE)['RELAY_USAGE_DB']);
    const [status] = configOf(environmentOf(SERVICE)).listen.status;
    ok(status?.kind === 'tcp');
    equal(config.relayStatusUrl, `http://127.0.0.1:${status.port}`);
    deepEqual(valuesOf(SIDECAR, 'SupplementaryGroups'), valuesOf(SERVICE, 'Group'));
    const examples = examplesOf('transit-relay-sidecar.env');
    ok(examples.length >= 5);
    for (const [variable, value] of examples) sidecarConfigOf({ ...environment, [variable]: value });
  });

  test('have an example of each variable that docs/systemd.md names', () => {
    const named = new Set(PAGE.match(/\b(?:RELAY|SIDECAR)_[A-Z_]+\b/gu));
    ok(named.size >= 3);
    const files = ['transit-relay.env', 'transit-relay-sidecar.env'];
    const examples = new Set(files.flatMap(examplesOf).map(([variable]) => variable));
    deepEqual(
      [...named].filter((variable) => !examples.has(variable)),
      [],
    );
  });

  test('are all installed by the commands in docs/systemd.md', () => {
    const commands = [...PAGE.matchAll(/^install -m \d+ (?:-g \S+ )?(.+) \/etc\/\S+$/gmu)];
    const installed = commands.flatMap(([, files = '']) => files.split(' '));
    const all = readdirSync(UNITS).filter((name) => name !== 'README.md');
    deepEqual(installed.toSorted(), all.toSorted());
  });

  test('get an automatic certificate with the settings in docs/systemd.md', () => {
    const [, block = ''] = /^```sh\n(RELAY_LISTEN=[^`]*)```$/mu.exec(PAGE) ?? [];
    const lines = [...block.matchAll(/^(\w+)='?([^'\n]+)'?$/gmu)];
    const settings = lines.map(([, variable = '', value = '']) => [variable, value] as const);
    const { acme, listen } = configOf({ ...environmentOf(SERVICE), ...Object.fromEntries(settings) });
    deepEqual(listen.raw.map(indexOf), [0, 2]);
    ok(acme !== null);
    equal(acme.statePath, '/var/lib/transit-relay/acme');
  });
});

function indexOf(endpoint: Endpoint): number | string {
  return endpoint.kind === 'systemd' ? endpoint.socket : endpoint.kind;
}
