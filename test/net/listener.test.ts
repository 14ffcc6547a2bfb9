import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { Server, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { parseEndpoint } from '../../src/config/endpoint.ts';
import type { Endpoint } from '../../src/config/endpoint.ts';
import { ListenError, listen } from '../../src/transport/listener.ts';
import { hasIpv6 } from '../support/ipv6.ts';
import { findProgram } from '../support/programs.ts';
import { scratch } from '../support/scratch.ts';

async function bind(context: TestContext, endpoint: string): Promise<Endpoint> {
  const server = createServer((socket) => socket.end());
  context.after(() => server.close());
  return await listen(server, parseEndpoint(endpoint));
}

async function reaches(port: number, host: string): Promise<boolean> {
  const socket = connect({ port, host });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

test('listens on IPv4 and IPv6 without an interface, and returns the port', async (context) => {
  const endpoint = await bind(context, 'tcp:0');
  assert.ok(endpoint.kind === 'tcp' && endpoint.port > 0);
  assert.ok(await reaches(endpoint.port, '127.0.0.1'));
  if (hasIpv6) assert.ok(await reaches(endpoint.port, '::1'));
});

test('listens only on the given interface', async (context) => {
  const endpoint = await bind(context, 'tcp:0:interface=127.0.0.2');
  assert.ok(endpoint.kind === 'tcp' && endpoint.interface === '127.0.0.2');
  assert.ok(await reaches(endpoint.port, '127.0.0.2'));
  assert.ok(!(await reaches(endpoint.port, '127.0.0.1')));
});

test('reports a port in use in one sentence with the endpoint and the reason', async (context) => {
  const inUse = await bind(context, 'tcp:0:interface=127.0.0.1');
  assert.ok(inUse.kind === 'tcp');
  await assert.rejects(bind(context, `tcp:${inUse.port}:interface=127.0.0.1`), (error) => {
    assert.ok(error instanceof ListenError);
    assert.equal(
      error.message,
      `can't listen on tcp:${inUse.port}:interface=127.0.0.1: another program listens there (EADDRINUSE)`,
    );
    return true;
  });
});

test('rejects an address of another machine', async (context) => {
  await assert.rejects(bind(context, 'tcp:0:interface=192.0.2.1'), /does not have that address/u);
});

test('sets the mode of a unix socket, and removes it at close', async (context) => {
  const path = join(await scratch(context), 'relay.sock');
  const server = createServer();
  await listen(server, parseEndpoint(`unix:${path}:mode=640`));
  assert.equal(lstatSync(path).mode & 0o777, 0o640);
  server.close();
  await once(server, 'close');
  assert.equal(lstatSync(path, { throwIfNoEntry: false }), undefined);
});

test('replaces a stale unix socket', async (context) => {
  const path = join(await scratch(context), 'relay.sock');
  const program = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
  const owner = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(owner.stdout, 'data');
  await assert.rejects(bind(context, `unix:${path}`), /another program listens there/u);
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  assert.ok(lstatSync(path).isSocket());
  assert.deepEqual(await bind(context, `unix:${path}`), {
    kind: 'unix',
    path,
    mode: null,
    backlog: null,
  });
});

test('does not replace a file that is not a socket', async (context) => {
  const path = join(await scratch(context), 'precious');
  writeFileSync(path, 'data');
  await assert.rejects(bind(context, `unix:${path}`), /the file there is not a socket/u);
  assert.ok(lstatSync(path).isFile());
});

test('rejects a unix socket in a missing directory', async (context) => {
  const path = join(await scratch(context), 'missing', 'relay.sock');
  await assert.rejects(bind(context, `unix:${path}`), /its directory does not exist/u);
});

/** Simulates a machine without IPv6. */
class ServerWithoutIpv6 extends Server {
  override listen(...args: unknown[]): this {
    const [options] = args;
    const wantsIpv6 =
      typeof options === 'object' && options !== null && 'host' in options && options.host === '::';
    // oxlint-disable-next-line typescript/unbound-method -- Reflect.apply binds it
    if (!wantsIpv6) return Reflect.apply(super.listen, this, args);
    const error = Object.assign(new Error('listen EAFNOSUPPORT'), { code: 'EAFNOSUPPORT' });
    process.nextTick(() => this.emit('error', error));
    return this;
  }
}

test('listens only on IPv4 if the machine has no IPv6', async (context) => {
  const server = new ServerWithoutIpv6((socket) => socket.end());
  context.after(() => server.close());
  const endpoint = await listen(server, parseEndpoint('tcp:0'));
  assert.ok(endpoint.kind === 'tcp' && endpoint.interface === '0.0.0.0');
  assert.ok(await reaches(endpoint.port, '127.0.0.1'));
});

test('uses the maximum listen backlog that the kernel allows', async (context) => {
  const endpoint = await bind(context, 'tcp:0:interface=127.0.0.1');
  assert.ok(endpoint.kind === 'tcp');
  const ss = findProgram('ss');
  if (ss === null) {
    context.skip('no "ss": install the Debian package iproute2');
    return;
  }
  const sockets = spawnSync(ss, ['-Hlnt', `sport = :${endpoint.port}`]).stdout.toString();
  const maximum = readFileSync('/proc/sys/net/core/somaxconn', 'utf8').trim();
  // State, Recv-Q, Send-Q. Send-Q is the listen backlog of a listening socket.
  assert.equal(sockets.trim().split(/\s+/u)[2], maximum);
});
