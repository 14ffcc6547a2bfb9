import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Program } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';
import { UNREACHABLE_URL } from '../support/sidecar-fixture.ts';
import { withBystander } from './support/with-bystander.ts';

const SOURCES = join(import.meta.dirname, '..', '..', 'src');

const END_MS = 20_000;

type Settings = Readonly<Record<string, string>>;

const RELAY: Settings = {
  RELAY_LISTEN: 'tcp:0:interface=127.0.0.1',
  RELAY_STATUS_LISTEN: '',
  RELAY_DRAIN_DELAY: '0',
};

/** All programs that listen at a path. */
const LISTENERS: readonly (readonly [
  role: string,
  main: string,
  settings: (endpoint: string, directory: string) => Settings,
])[] = [
  ['raw', 'main.ts', (endpoint) => ({ ...RELAY, RELAY_LISTEN: endpoint })],
  ['websocket', 'main.ts', (endpoint) => ({ ...RELAY, RELAY_WEBSOCKET_LISTEN: endpoint })],
  ['status', 'main.ts', (endpoint) => ({ ...RELAY, RELAY_STATUS_LISTEN: endpoint })],
  [
    'sidecar',
    'sidecar/main.ts',
    (endpoint, directory) => ({
      SIDECAR_LISTEN: endpoint,
      SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
      SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
      SIDECAR_RELAY_STATUS: UNREACHABLE_URL,
    }),
  ],
];

/** Resolves when a program accepts a connection at `path`; rejects when none does. */
async function expectReachable(path: string): Promise<void> {
  const socket = connect(path);
  await once(socket, 'connect');
  socket.destroy();
}

describe('a unix socket', () => {
  for (const [role, main, settings] of LISTENERS) {
    test(`of a newer process stays when the older one stops: ${role}`, async (context) => {
      const directory = await scratch(context);
      const sockets = await scratch(context);
      const path = join(sockets, 'program.sock');
      const start = async (): Promise<Program> => {
        const env = { PATH: process.env['PATH'], ...settings(`unix:${path}:mode=660`, directory) };
        const program = new Program([process.execPath, join(SOURCES, main)], { env });
        context.after(() => program[Symbol.asyncDispose]());
        await program.waitForOutput(new RegExp(`"role":"${role}","endpoint":"unix:`, 'u'));
        return program;
      };
      const stop = async (program: Program): Promise<void> => {
        program.kill('SIGTERM');
        await program.succeeds(END_MS);
      };
      await withBystander(context, `a newer unix socket, ${role}`, async () => {
        const older = await start();
        assert.equal(lstatSync(path).mode & 0o777, 0o660);
        // This is how an operator replaces a program without downtime.
        rmSync(path);
        const newer = await start();
        const before = lstatSync(path, { bigint: true });
        await stop(older);
        assert.equal(lstatSync(path, { bigint: true }).ino, before.ino);
        await expectReachable(path);
        // It removes its own socket only.
        await stop(newer);
        assert.deepEqual(readdirSync(sockets), []);

        const moved = await start();
        renameSync(path, `${path}.moved`);
        await stop(moved);
        assert.ok(existsSync(`${path}.moved`), 'the relay does not remove a moved socket');
      });
    });
  }

  test('of a killed process is replaced, and a socket in use is not', async (context) => {
    const sockets = await scratch(context);
    const path = join(sockets, 'relay.sock');
    const program = (): Program =>
      new Program([process.execPath, join(SOURCES, 'main.ts')], {
        env: { PATH: process.env['PATH'], ...RELAY, RELAY_LISTEN: `unix:${path}` },
      });
    await using killed = program();
    await killed.waitForOutput(/"role":"raw"/u);
    killed.kill('SIGKILL');
    await killed.succeeds(END_MS).catch(() => undefined);
    assert.ok(lstatSync(path).isSocket());
    await using next = program();
    await next.waitForOutput(/"role":"raw"/u);
    await expectReachable(path);
    await using late = program();
    await late.waitForOutput(/can't listen on unix:.*another program listens there/u);
    await late.succeeds(END_MS).catch(() => undefined);
    await expectReachable(path);
    assert.deepEqual(readdirSync(sockets), ['relay.sock']);
  });
});
