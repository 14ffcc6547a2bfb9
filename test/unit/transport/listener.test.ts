import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { Server, connect, createServer } from 'node:net';
import type { NetConnectOpts } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { parseEndpoint } from '../../../src/config/endpoint.ts';
import type { Endpoint } from '../../../src/config/endpoint.ts';
import { ListenError, listen } from '../../../src/transport/listener.ts';
import { canConnect, hasIpv6 } from '../../support/listening.ts';
import { findProgram } from '../../support/programs.ts';
import { scratch } from '../../support/scratch.ts';
import { Activation, withoutSocketActivation } from '../../support/socket-activation.ts';

async function bind(context: TestContext, endpoint: string): Promise<Endpoint> {
  const server = createServer((socket) => socket.end());
  context.after(() => server.close());
  return await listen(server, parseEndpoint(endpoint));
}

test('listens on IPv4 and IPv6 without an interface, and returns the port', async (context) => {
  const endpoint = await bind(context, 'tcp:0');
  assert.ok(endpoint.kind === 'tcp' && endpoint.port > 0);
  assert.ok(await canConnect(endpoint.port, '127.0.0.1'));
  if (hasIpv6) assert.ok(await canConnect(endpoint.port, '::1'));
});

test('listens only on the given interface', async (context) => {
  const endpoint = await bind(context, 'tcp:0:interface=127.0.0.2');
  assert.ok(endpoint.kind === 'tcp' && endpoint.interface === '127.0.0.2');
  assert.ok(await canConnect(endpoint.port, '127.0.0.2'));
  assert.ok(!(await canConnect(endpoint.port, '127.0.0.1')));
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
  assert.ok(await canConnect(endpoint.port, '127.0.0.1'));
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

const SERVER = join(import.meta.dirname, 'inherited-server.ts');

interface Launch {
  readonly sockets: Readonly<Record<string, string>>;
  readonly endpoints: readonly string[];
  readonly isWrapped?: boolean;
}

async function launch(
  context: TestContext,
  { sockets, endpoints, isWrapped = false }: Launch,
): Promise<Activation> {
  const command = [process.execPath, SERVER, ...endpoints];
  const activation = await Activation.start({ sockets, command, isWrapped });
  context.after(() => activation[Symbol.asyncDispose]());
  return activation;
}

/** The process id of the program that answers at `address`. */
async function answeringPid(address: NetConnectOpts): Promise<number> {
  return Number(await text(connect(address)));
}

/** Why this machine can't create such a socket. */
function withoutFamily(socket: string): string | false {
  return socket.includes('::') && !hasIpv6 ? 'no IPv6 on this machine' : false;
}

async function errorOf(context: TestContext, socket: string, endpoint: string): Promise<string> {
  const activation = await launch(context, { sockets: { a: socket }, endpoints: [endpoint] });
  const [, error = ''] = await activation.program.waitForOutput(/^error: (.*)$/mu);
  return error;
}

describe('a socket inherited from systemd', { skip: withoutSocketActivation() ?? false }, () => {
  test('is found by index and by name, with its address', async (context) => {
    const path = join(await scratch(context), 'relay.sock');
    const activation = await launch(context, {
      sockets: { raw: 'tcp:127.0.0.1', web: 'tcp:127.0.0.2', local: `unix:${path}` },
      endpoints: [
        'systemd:domain=INET:index=0',
        'systemd:domain=INET:name=web:privateKey=/k',
        'systemd:domain=UNIX:index=2',
      ],
    });
    const { program } = activation;
    const [raw, web] = [activation.port('raw'), activation.port('web')];
    await program.waitForOutput(new RegExp(`index=0 is tcp:${raw}:interface=127\\.0\\.0\\.1 of`, 'u'));
    const secure = `is ssl:${web}:privateKey=/k:interface=127\\.0\\.0\\.2 of`;
    await program.waitForOutput(new RegExp(secure, 'u'));
    await program.waitForOutput(new RegExp(`index=2 is unix:${path} of`, 'u'));
    const pid = await answeringPid({ port: raw, host: '127.0.0.1' });
    assert.ok(pid > 0);
    assert.equal(await answeringPid({ port: web, host: '127.0.0.2' }), pid);
    assert.equal(await answeringPid({ path }), pid);
  });

  test('stays open when the server closes, so that the next process serves new clients', async (context) => {
    const path = join(await scratch(context), 'relay.sock');
    const activation = await launch(context, {
      sockets: { raw: 'tcp:127.0.0.1', local: `unix:${path}` },
      endpoints: ['systemd:domain=INET:index=0', 'systemd:domain=UNIX:index=1'],
    });
    await activation.program.waitForOutput(/index=1 is/u);
    const raw = { port: activation.port('raw'), host: '127.0.0.1' };
    const first = await answeringPid(raw);
    process.kill(first, 'SIGTERM');
    await activation.program.waitForOutput(/^ended with 0$/mu);
    assert.ok(lstatSync(path).isSocket(), 'the path of the unix socket is still there');
    const [second, third] = await Promise.all([answeringPid({ path }), answeringPid(raw)]);
    assert.notEqual(second, first);
    assert.equal(third, second);
  });

  test(
    'matches INET and INET6 if it listens on all addresses',
    { skip: withoutFamily('tcp:::') },
    async (context) => {
      const activation = await launch(context, {
        sockets: { a: 'tcp:::', b: 'tcp:::' },
        endpoints: ['systemd:domain=INET:index=0', 'systemd:domain=INET6:index=1'],
      });
      await activation.program.waitForOutput(/index=0 is tcp:\d+:interface=\\:\\: of/u);
      await activation.program.waitForOutput(/index=1 is tcp:\d+:interface=\\:\\: of/u);
      assert.ok((await answeringPid({ port: activation.port('a'), host: '127.0.0.1' })) > 0);
    },
  );

  const cases: readonly (readonly [name: string, socket: string, endpoint: string, error: RegExp])[] = [
    [
      'is rejected if it is IPv4 instead of IPv6',
      'tcp:127.0.0.1',
      'systemd:domain=INET6:index=0',
      /127\.0\.0\.1, .*domain=INET$/u,
    ],
    [
      'is rejected if it is IPv6 instead of IPv4',
      'tcp:::1',
      'systemd:domain=INET:index=0',
      /for ::1, .*domain=INET6$/u,
    ],
    ['is rejected if it is TCP instead of unix', 'tcp:::', 'systemd:domain=UNIX:index=0', /domain=INET6$/u],
    [
      'is rejected if it is a unix socket without a path',
      'unix:@relay-test',
      'systemd:domain=UNIX:index=0',
      /has no path/u,
    ],
    [
      'is rejected if it is unix instead of TCP',
      'unix:@relay-test',
      'systemd:domain=INET:index=0',
      /domain=UNIX$/u,
    ],
    [
      'is rejected if it is a connection',
      'connected',
      'systemd:domain=UNIX:index=0',
      /Accept=no \(EINVAL\)$/u,
    ],
    [
      'is rejected if systemd did not pass it',
      'tcp:127.0.0.1',
      'systemd:domain=INET:index=1',
      /there are 0 \(a\)$/u,
    ],
  ];
  for (const [name, socket, endpoint, error] of cases) {
    test(name, { skip: withoutFamily(socket) }, async (context) => {
      const message = await errorOf(context, socket, endpoint);
      assert.ok(message.startsWith(`can't listen on ${endpoint}: `), message);
      assert.match(message, error);
    });
  }

  test('is closed if it is rejected, so that the program can exit', async (context) => {
    const activation = await launch(context, {
      sockets: { a: 'tcp:127.0.0.1' },
      endpoints: ['systemd:domain=UNIX:index=0'],
    });
    await activation.program.waitForOutput(/^ended with 0$/mu);
  });

  test('serves only one endpoint', async (context) => {
    const endpoint = 'systemd:domain=INET:index=0';
    const activation = await launch(context, {
      sockets: { a: 'tcp:127.0.0.1' },
      endpoints: [endpoint, endpoint],
    });
    await activation.program.waitForOutput(
      /^error: .*another endpoint already uses that socket \(EEXIST\)$/mu,
    );
  });

  test('is not used by a process that systemd did not start directly', async (context) => {
    const activation = await launch(context, {
      sockets: { a: 'tcp:127.0.0.1' },
      endpoints: ['systemd:domain=INET:index=0'],
      isWrapped: true,
    });
    await activation.program.waitForOutput(/^error: .*ExecStart= must run node directly/mu);
  });
});

test('a program that does not support sockets from systemd reports it', async () => {
  const listening = listen(createServer(), parseEndpoint('systemd:domain=INET:index=0'));
  await assert.rejects(listening, /this program does not accept sockets from systemd/u);
});
