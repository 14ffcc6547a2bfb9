import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { UpstreamConnection } from '../../src/cluster/forwarder.ts';
import type { UpstreamHandler } from '../../src/cluster/forwarder.ts';
import type { Link } from '../../src/cluster/link-client.ts';
import type { ClusterRouter } from '../../src/cluster/router.ts';
import { IoBackend } from '../../src/transport/io-backend.ts';
import { ScriptedStream } from '../support/scripted-stream.ts';
import { keepAliveOptions } from '../support/keepalive.ts';
import { until } from '../support/scratch.ts';

const LINE = new TextEncoder().encode('a line\n');
const OWNER = { id: 'owner', address: 'there' };

/** What the one who calls is told, word by word. */
class Told implements UpstreamHandler {
  readonly words: string[] = [];
  bytes = '';

  onUpstreamConnected(): void {
    this.words.push('connected');
  }

  onUpstreamReply(word: string, rest: Uint8Array): void {
    this.words.push(`answered ${word}`);
    this.onUpstreamData(rest);
  }

  onUpstreamFailed(failure: string): void {
    this.words.push(`failed ${failure}`);
  }

  onUpstreamData(bytes: Uint8Array): void {
    this.bytes += Buffer.from(bytes).toString();
  }

  onUpstreamDrain(): void {
    this.words.push('drained');
  }

  onUpstreamEnd(): void {
    this.words.push('ended');
  }
}

for (const kind of ['shared buffer', 'standard streams'] as const) {
  describe(`a call by way of the ${kind}`, () => {
    const sockets: Socket[] = [];
    const server: Server = createServer({ allowHalfOpen: true }, (socket) => sockets.push(socket));
    let backend = IoBackend.withStandardStreams();
    let port = 0;
    before(async () => {
      if (kind === 'shared buffer') backend = await IoBackend.open(2 ** 20);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      if (address !== null && typeof address === 'object') ({ port } = address);
    });
    after(() => server.close());

    async function dial(): Promise<Link> {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      await once(socket, 'connect');
      return { stream: backend.adoptSocket(socket, 'tcp'), firstBytes: new Uint8Array(0) };
    }

    /** A call to an owner that is a socket, which has taken the line. */
    async function call(
      context: TestContext,
      dialed: () => Promise<Link> = dial,
    ): Promise<{ told: Told; call: UpstreamConnection; owner: Socket; isOver: () => boolean }> {
      const notifications = new Told();
      const made = new UpstreamConnection(notifications);
      const router: Pick<ClusterRouter, 'connect'> = { connect: dialed };
      made.start(router, OWNER, LINE);
      await until(() => sockets.length > 0);
      const owner = sockets.pop();
      if (owner === undefined) throw new Error('nobody calls');
      context.after(() => owner.destroy());
      owner.setNoDelay(true).on('error', () => undefined);
      const [line] = await once(owner, 'data');
      assert.equal(String(line), 'a line\n');
      let isOver = false;
      owner.once('end', () => (isOver = true));
      return { told: notifications, call: made, owner, isOver: () => isOver };
    }

    for (const word of ['impatient', 'busy', 'over quota', 'gone']) {
      test(`ends with the word "${word}", and nothing behind it is of interest`, async (context) => {
        const { told: notifications, owner, isOver } = await call(context);
        owner.write(`${word}\nmore`);
        await until(isOver);
        owner.write('and more');
        owner.end();
        await once(owner, 'close');
        assert.deepEqual(notifications.words, ['connected', `answered ${word}`]);
      });
    }

    test('takes the bytes that come with the word', async (context) => {
      const { told: notifications, owner, call: made, isOver } = await call(context);
      owner.write('ok\nbytes\nand lines');
      await until(() => notifications.bytes === 'bytes\nand lines');
      made.close();
      await until(isOver);
      owner.end('unheard');
      await once(owner, 'close');
      assert.equal(notifications.bytes, 'bytes\nand lines');
      assert.deepEqual(notifications.words, ['connected', 'answered ok']);
    });

    test('lasts through network outages once the client has a partner', async (context) => {
      const { told: notifications, owner } = await call(context);
      const keepAlive = (): unknown =>
        keepAliveOptions().find(({ localPort }) => localPort === owner.remotePort)?.keepAlive;
      assert.deepEqual(keepAlive(), [5, 1, 10]);
      owner.write('ok\n');
      await until(() => notifications.words.includes('answered ok'));
      assert.deepEqual(keepAlive(), [30, 30, 9]);
    });

    test('takes what had come before it was made', async (context) => {
      const { told: notifications } = await call(context, async () => ({
        ...(await dial()),
        firstBytes: Buffer.from('ok\nbytes'),
      }));
      assert.deepEqual(notifications.words, ['connected', 'answered ok']);
      assert.equal(notifications.bytes, 'bytes');
    });

    for (const [name, words] of Object.entries({
      'a word that it does not know': 'elsewhere\n',
      'an empty word': '\n',
      'a line without an end': 'x'.repeat(64),
    })) {
      test(`comes to nothing with ${name}, and is told so once`, async (context) => {
        const { told: notifications, owner, isOver } = await call(context);
        owner.write(words);
        await until(isOver);
        owner.end('ok\n');
        await once(owner, 'close');
        assert.deepEqual(notifications.words, ['connected', 'failed moved']);
      });
    }

    test('comes to nothing with an owner that goes in the middle of a word', async (context) => {
      const { told: notifications, owner, isOver } = await call(context);
      owner.end('o');
      await until(isOver);
      assert.deepEqual(notifications.words, ['connected', 'failed moved']);
      const { told: hurt, owner: other } = await call(context);
      other.resetAndDestroy();
      await until(() => hurt.words.length === 2);
      assert.deepEqual(hurt.words, ['connected', 'failed moved']);
    });

    test('that nobody answers comes to nothing, and to nothing at all where it was hung up', async () => {
      const notifications = new Told();
      const nobody = Promise.reject(new Error('nobody'));
      const made = new UpstreamConnection(notifications);
      made.start({ connect: () => nobody }, OWNER, LINE);
      await until(() => notifications.words.length === 1);
      assert.deepEqual(notifications.words, ['failed unreachable']);
      const given = new Told();
      const up = new UpstreamConnection(given);
      const { promise, reject } = Promise.withResolvers<Link>();
      up.start({ connect: () => promise }, OWNER, LINE);
      up.close();
      reject(new Error('nobody'));
      await promise.catch(() => undefined);
      assert.deepEqual(given.words, []);
    });
  });
}

test('a call takes an owner’s word in any pieces, out of memory that is used again', async () => {
  const notifications = {
    'ok\nbytes': { words: ['connected', 'answered ok'], bytes: 'bytes' },
    'over quota\n': { words: ['connected', 'answered over quota'], bytes: '' },
    'elsewhere\n': { words: ['connected', 'failed moved'], bytes: '' },
  };
  for (const [words, expected] of Object.entries(notifications)) {
    assert.deepEqual(await outcome(words, []), expected);
    for (let first = 1; first < words.length; first += 1) {
      for (let second = first; second < words.length; second += 1)
        assert.deepEqual(await outcome(words, [first, second]), expected);
    }
  }
});

/** What a caller is told when the owner's words come cut at these places. */
async function outcome(words: string, cuts: readonly number[]): Promise<Pick<Told, 'words' | 'bytes'>> {
  const notifications = new Told();
  const stream = new ScriptedStream();
  new UpstreamConnection(notifications).start(
    { connect: () => Promise.resolve({ stream, firstBytes: new Uint8Array(0) }) },
    OWNER,
    LINE,
  );
  await setImmediate();
  for (const [at, from] of [0, ...cuts].entries()) stream.feed(words.slice(from, cuts[at] ?? words.length));
  return { words: notifications.words, bytes: notifications.bytes };
}
