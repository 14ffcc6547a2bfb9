import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { text as allText } from 'node:stream/consumers';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestContext } from 'node:test';
import { parseEndpoint } from '../../../src/config/endpoint.ts';
import { SIDE_A, SIDE_B, handshake, newToken, randomBytesOf } from '../../support/bytes.ts';
import { COMPILE_CACHE } from '../../support/compile-cache.ts';
import { fatalReasons } from '../../support/programs.ts';
import { STOPPED_CLOCK } from '../../support/patience.ts';
import { UsageReader } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';

const MAIN = join(import.meta.dirname, '..', '..', '..', 'src', 'main.ts');
/** Time for the relay to handle a signal that it should ignore, in milliseconds. */
const IGNORED_MS = 100;

const ANY_PORT = 'tcp:0:interface=127.0.0.1';

/** The relay as a child process, with its output and its ports. */
class RelayChild {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  stdout = '';
  stderr = '';
  #wake: () => void = () => undefined;

  constructor(context: TestContext, env: Record<string, string>, extraFds: readonly number[] = []) {
    this.child = spawn(process.execPath, [MAIN], {
      stdio: ['ignore', 'pipe', 'pipe', ...extraFds],
      env: { ...COMPILE_CACHE, RELAY_LISTEN: ANY_PORT, RELAY_STATUS_LISTEN: ANY_PORT, ...env },
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#wake();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.exit = once(this.child, 'close').then(([code]) => (typeof code === 'number' ? code : null));
    void this.exit.then(() => this.#wake());
    context.after(() => this.child.kill('SIGKILL'));
  }

  async waitForLog(pattern: RegExp): Promise<void> {
    while (!pattern.test(this.stdout)) {
      if (this.child.exitCode !== null)
        throw new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async port(role: string): Promise<number> {
    await this.waitForLog(new RegExp(`"role":"${role}".*\n`, 'u'));
    const line = this.stdout.split('\n').find((text) => text.includes(`"role":"${role}"`)) ?? '';
    const entry: unknown = JSON.parse(line);
    assert.ok(typeof entry === 'object' && entry !== null && 'endpoint' in entry);
    const endpoint = parseEndpoint(String(entry.endpoint));
    return endpoint.kind === 'tcp' ? endpoint.port : 0;
  }

  async client(line: string): Promise<Socket> {
    const socket = connect({ port: await this.port('raw'), host: '127.0.0.1' });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    socket.write(line);
    return socket;
  }

  /** Two clients that both have received `ok`. */
  async pair(): Promise<[Socket, Socket]> {
    const token = newToken();
    const a = await this.client(handshake(token, SIDE_A));
    const b = await this.client(handshake(token, SIDE_B));
    await Promise.all([once(a, 'data'), once(b, 'data')]);
    return [a, b];
  }

  /** Checks that bytes get from one client to another. */
  async transfer(): Promise<void> {
    const [a, b] = await this.pair();
    a.end('bytes');
    const [bytes] = await once(b, 'data');
    assert.equal(String(bytes), 'bytes');
    b.end();
  }
}

function usage(path: string): { result: string; total_bytes: number }[] {
  using reader = new UsageReader(path);
  return reader.rows().map(({ result, total_bytes }) => ({ result, total_bytes }));
}

test('invalid configuration: all errors at once, and exit code 78', async (context) => {
  const relay = new RelayChild(context, {
    RELAY_LISTEN: 'tcp:99999',
    RELAY_BLUR_USAGE: 'much',
    RELAY_LOG_LEVEL: 'loud',
  });
  assert.equal(await relay.exit, 78);
  const lines = fatalReasons(relay.stdout);
  assert.equal(lines.length, 3);
  assert.match(
    lines[0] ?? '',
    /^RELAY_LISTEN="tcp:99999" can't be used: .*0 to 65535.*Accepted: endpoints like/u,
  );
  assert.match(lines[1] ?? '', /^RELAY_BLUR_USAGE="much" .*whole seconds/u);
  assert.match(lines[2] ?? '', /^RELAY_LOG_LEVEL="loud" .*one of trace, debug/u);
  assert.match(relay.stdout, /^\{"level":"fatal",.*"exit_code":78,.*"msg":"invalid configuration"\}\n$/u);
  assert.equal(relay.stderr, '');
});

test('invalid configuration without a writable standard output: messages on standard error', () => {
  const fd = openSync(MAIN, 'r');
  const { status, stderr } = spawnSync(process.execPath, [MAIN], {
    stdio: ['ignore', fd, 'pipe'],
    env: { RELAY_LISTEN: 'tcp:99999' },
    encoding: 'utf8',
  });
  closeSync(fd);
  assert.equal(status, 78);
  assert.match(
    stderr,
    /^file descriptor 1 is not open for writing\nRELAY_LISTEN="tcp:99999" can't be used: .*\n$/u,
  );
});

test('an unknown variable causes a warning with the most similar one', async (context) => {
  const relay = new RelayChild(context, { RELAY_LISTENS: 'tcp:1' });
  await relay.waitForLog(/"level":"warn".*RELAY_LISTENS is unknown.*most similar variable is RELAY_LISTEN"/u);
  await relay.port('status');
});

test('a failed start is one fatal log line at any log level, and exit code 1', async (context) => {
  const directory = await scratch(context);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  mkdirSync(join(directory, 'folder'));
  const cases: [Record<string, string>, RegExp][] = [
    [
      { RELAY_LISTEN: `tcp:${address.port}:interface=127.0.0.1` },
      /^can't listen on tcp:\d+.*another program/u,
    ],
    [
      { RELAY_USAGE_DB: join(directory, 'folder') },
      /^can't use ".*folder" as the usage database: it is a directory$/u,
    ],
    [{ RELAY_USAGE_DB: join(directory, 'no', 'u.sqlite') }, /^can't use .*there is no directory ".*no"$/u],
    [{ RELAY_LOG_FD: '77' }, /^file descriptor 77 is not open for writing$/u],
    ...[3, 4, 5, 6, 7, 8, 9].map((fd): [Record<string, string>, RegExp] => [
      { RELAY_LOG_FD: String(fd) },
      new RegExp(`^file descriptor ${fd} is not open for writing$`, 'u'),
    ]),
  ];
  await Promise.all(
    cases.map(async ([env, sentence]) => {
      const relay = new RelayChild(context, { RELAY_LOG_LEVEL: 'silent', ...env });
      assert.equal(await relay.exit, 1);
      const [reason = '', ...more] = fatalReasons(relay.stdout);
      assert.match(reason, sentence);
      assert.deepEqual([more, relay.stderr], [[], '']);
    }),
  );
});

test('SIGTERM and SIGINT stop an idle relay with exit code 0; waiting clients are closed and recorded', async (context) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const path = join(await scratch(context), 'usage.sqlite');
    const relay = new RelayChild(context, { RELAY_USAGE_DB: path, RELAY_DRAIN_DELAY: '0s' });
    const waiting = await relay.client(handshake(newToken(), SIDE_A));
    const reply = allText(waiting);
    await relay.port('status');
    while ((await current(path)) !== 1) await new Promise((resolve) => setTimeout(resolve, 20));
    relay.child.kill(signal);
    assert.equal(await reply, 'shutting down\n');
    assert.equal(await relay.exit, 0);
    assert.deepEqual(usage(path), [{ result: 'lonely', total_bytes: 0 }]);
    assert.match(relay.stdout, /"msg":"stopped"/u);
  }
});

async function current(path: string): Promise<number | undefined> {
  using reader = new UsageReader(path);
  return reader.current()?.waiting;
}

test('SIGTERM waits for a transfer, rejects new clients, and records the transfer', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const relay = new RelayChild(context, { RELAY_USAGE_DB: path, RELAY_DRAIN_TIMEOUT: '60s' });
  const [a, b] = await relay.pair();
  relay.child.kill('SIGTERM');
  await relay.waitForLog(/"pairs":1.*"msg":"draining"/u);
  // The listener closes just after the message. A connection that comes before that is closed by the relay.
  const codes = new Set<unknown>();
  while (!codes.has('ECONNREFUSED')) {
    const late = connect({ port: await relay.port('raw'), host: '127.0.0.1' });
    late.on('error', (error) => codes.add(Reflect.get(error, 'code')));
    await new Promise((resolve) => late.resume().once('close', resolve));
  }
  const bytes = randomBytesOf(1, 3_000_000);
  const got: Buffer[] = [];
  b.on('data', (chunk: Buffer) => got.push(chunk));
  a.end(bytes);
  await once(b, 'end');
  assert.ok(Buffer.concat(got).equals(bytes));
  b.end();
  assert.equal(await relay.exit, 0);
  assert.deepEqual(usage(path), [{ result: 'happy', total_bytes: 3_000_000 }]);
});

test('a transfer is closed and recorded after the drain timeout, or on a second signal', async (context) => {
  for (const second of [true, false]) {
    const path = join(await scratch(context), 'usage.sqlite');
    const relay = new RelayChild(context, {
      RELAY_USAGE_DB: path,
      RELAY_DRAIN_TIMEOUT: second ? '1h' : '100ms',
      ...(second ? STOPPED_CLOCK : {}),
    });
    const [a, b] = await relay.pair();
    a.write('half');
    await once(b, 'data');
    relay.child.kill('SIGTERM');
    await relay.waitForLog(/"msg":"draining"/u);
    if (second) {
      // npm and `timeout` forward a signal that the relay already has. It is ignored for a second.
      relay.child.kill('SIGTERM');
      await sleep(IGNORED_MS);
      relay.child.kill('SIGUSR2');
      await relay.waitForLog(/^an hour later$/mu);
      a.write(' more');
      await once(b, 'data');
      relay.child.kill('SIGTERM');
    }
    await Promise.all([once(a, 'close'), once(b, 'close')]);
    assert.equal(await relay.exit, 0);
    assert.deepEqual(usage(path), [{ result: 'happy', total_bytes: second ? 9 : 4 }]);
    assert.match(relay.stdout, /"pairs":1,"msg":"drain timeout; closing remaining transfers"/u);
  }
});

test('an uncaught error is one log line without its message, exit code 70, and records are written', async (context) => {
  const path = join(await scratch(context), 'usage.sqlite');
  const bomb =
    "process.on('SIGUSR2', () => { setImmediate(() => { throw new RangeError('quotes a client'); }); });";
  const relay = new RelayChild(context, {
    RELAY_USAGE_DB: path,
    NODE_OPTIONS: `--import="data:text/javascript,${encodeURIComponent(bomb)}"`,
  });
  await relay.pair();
  relay.child.kill('SIGUSR2');
  assert.equal(await relay.exit, 70);
  const fatal = relay.stdout.split('\n').filter((line) => line.includes('"level":"fatal"'));
  assert.equal(fatal.length, 1);
  assert.match(fatal[0] ?? '', /"name":"RangeError".*"msg":"internal error"/u);
  assert.doesNotMatch(relay.stdout + relay.stderr, /quotes a client/u);
  assert.deepEqual(usage(path), [{ result: 'happy', total_bytes: 0 }]);
});

test('without the handles of Node.js, the relay warns and uses standard streams', async (context) => {
  const withoutBindings =
    "delete process.binding; Object.defineProperty(process, 'binding', { value: undefined });";
  const relay = new RelayChild(context, {
    RELAY_LOG_LEVEL: 'debug',
    NODE_OPTIONS: `--import="data:text/javascript,${encodeURIComponent(withoutBindings)}"`,
  });
  await relay.waitForLog(/"level":"warn".*"io_backend":"standard streams"/u);
  await relay.transfer();
  relay.child.kill('SIGTERM');
  assert.equal(await relay.exit, 0);
});

test('each record is a JSON line on the log descriptor, blurred if configured', async (context) => {
  const file = join(await scratch(context), 'log.jsonl');
  const fd = openSync(file, 'a');
  const relay = new RelayChild(context, { RELAY_LOG_FD: '3', RELAY_BLUR_USAGE: '3600' }, [fd]);
  closeSync(fd);
  const [a, b] = await relay.pair();
  a.end('123');
  await once(b, 'end');
  b.end();
  relay.child.kill('SIGTERM');
  assert.equal(await relay.exit, 0);
  assert.match(
    readFileSync(file, 'utf8'),
    /^\{"started":\d+,"total_time":10,"waiting_time":10,"total_bytes":10000,"mood":"happy"\}\n$/u,
  );
  const started = Number(/"started":(\d+)/u.exec(readFileSync(file, 'utf8'))?.[1]);
  assert.equal(started % 3600, 0);
});

test('limits per address that affect all clients cause one warning with the reason', async (context) => {
  const relay = new RelayChild(context, {
    RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1',
    RELAY_TRUSTED_PROXIES: '127.0.0.1',
  });
  const rejected = async (count: number, address: string): Promise<void> => {
    const header = `PROXY TCP4 ${address} 127.0.0.1 1111 4001\r\n`;
    const waiting = await relay.client(header + handshake(newToken(), SIDE_A));
    const others = Array.from({ length: count }, () => relay.client(header + handshake(newToken(), SIDE_A)));
    for (const other of await Promise.all(others)) assert.equal(await allText(other), 'busy\n');
    waiting.destroy();
  };
  await rejected(40, '203.0.113.7');
  assert.doesNotMatch(relay.stdout, /private address/u);
  await rejected(20, '172.17.0.1');
  await relay.waitForLog(/"level":"warn".*nearly all clients rejected.*come from one private address/u);
  await rejected(40, '172.17.0.1');
  relay.child.kill('SIGTERM');
  assert.equal(await relay.exit, 0);
  assert.equal(relay.stdout.match(/private address/gu)?.length, 1);
  assert.doesNotMatch(relay.stdout, /172\.17|203\.0/u);
});

test('the relay continues after the reader of its log has closed', async (context) => {
  const relay = new RelayChild(context, { RELAY_LOG_LEVEL: 'debug', RELAY_LOG_FD: '1' });
  const port = await relay.port('raw');
  await relay.port('status');
  relay.child.stdout?.destroy();
  for (let round = 0; round < 20; round += 1) await relay.transfer();
  assert.ok(port > 0);
  relay.child.kill('SIGTERM');
  assert.equal(await relay.exit, 0);
});

test('a stuck log reader stops neither transfers nor the exit', async (context) => {
  const relay = new RelayChild(context, { RELAY_LOG_LEVEL: 'trace', RELAY_LOG_FD: '1' });
  await relay.port('raw');
  await relay.port('status');
  relay.child.stdout?.pause();
  const noise = Array.from({ length: 1500 }, () => relay.client('no handshake\n'));
  for (const socket of await Promise.all(noise)) await once(socket.resume(), 'close');
  await relay.transfer();
  relay.child.kill('SIGTERM');
  const [code] = await once(relay.child, 'exit');
  assert.equal(code, 0);
});

test('no log line and no record has a token, a side or an address, at any log level', async (context) => {
  const directory = await scratch(context);
  const file = join(directory, 'log.jsonl');
  const fd = openSync(file, 'a');
  const relay = new RelayChild(
    context,
    { RELAY_LOG_LEVEL: 'trace', RELAY_LOG_FD: '3', RELAY_LISTEN: 'tcp:0:interface=127.0.0.3' },
    [fd],
  );
  closeSync(fd);
  const port = await relay.port('raw');
  await relay.port('status');
  const token = 'feedface'.repeat(8);
  const ports: number[] = [];
  const say = async (text: string): Promise<Socket> => {
    const socket = connect({ port, host: '127.0.0.3', localAddress: '127.0.0.9' });
    socket.on('error', () => undefined);
    await once(socket, 'connect');
    ports.push(socket.localPort ?? 0);
    socket.write(text);
    return socket;
  };
  const a = await say(handshake(token, SIDE_A));
  const b = await say(handshake(token, SIDE_B));
  await Promise.all([once(a, 'data'), once(b, 'data')]);
  a.resetAndDestroy();
  await once(b, 'close');
  const bad = await say(`please relay ${token} for side ${SIDE_A}x\n`);
  await once(bad.resume(), 'close');
  relay.child.kill('SIGTERM');
  assert.equal(await relay.exit, 0);
  const written = relay.stdout + relay.stderr + readFileSync(file, 'utf8');
  for (const secret of ['feedface', SIDE_A, SIDE_B, '127.0.0.9', ...ports.map((number) => `:${number}`)]) {
    assert.ok(!written.includes(secret), `${secret} was written`);
  }
  assert.match(written, /"mood":"errory"/u);
});
