import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Forwarder } from '../../../src/cluster/forwarder.ts';
import type { ForwardableClient } from '../../../src/cluster/forwarder.ts';
import type { Link } from '../../../src/cluster/link-client.ts';
import type { ClusterRouter, Owner } from '../../../src/cluster/router.ts';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { transition } from '../../../src/protocol/session.ts';
import type { SessionEvent, SessionState } from '../../../src/protocol/session.ts';
import { Splice, StallTimer } from '../../../src/sessions/splice.ts';
import type { ClientTransport } from '../../../src/transport/client-transport.ts';
import { IoBackend } from '../../../src/transport/io-backend.ts';
import { RawTransport } from '../../../src/transport/raw-transport.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';
import { keepAliveOptions } from '../../support/keepalive.ts';
import { until } from '../../support/scratch.ts';

const LINE = `please relay ${'a'.repeat(64)}\n`;
const OWNER: Owner = { id: 'owner', address: 'owner-host:4005' };
const NO_BYTES = new Uint8Array(0);

/** Events that the forwarder dispatches to its client, and its calls of the router. */
type Step = SessionEvent | 'joins the rendezvous' | 'takes over' | 'looks up again';

const REDIRECTED: Step = 'redirected';
const FORWARDED: Step = 'forwarded';

const STEPS_BY_REPLY: Readonly<Record<string, Step>> = {
  impatient: 'early-bytes',
  busy: 'busy',
  'over quota': 'over-quota',
  gone: 'partner-gone',
};

/** The client's byte stream. It records the bytes that are sent to the client. */
class RecordingStream extends ScriptedStream {
  text = '';

  override write(bytes?: Uint8Array): boolean {
    this.text += Buffer.from(bytes ?? NO_BYTES).toString('latin1');
    return true;
  }
}

/** A fake client with the real session table, a fake router, and a real forwarder between them. */
class Forwarding implements ForwardableClient {
  readonly steps: Step[] = [];
  readonly #stream = new RecordingStream();
  readonly transport = new RawTransport(this.#stream);
  readonly #forwarder: Forwarder;
  state: SessionState = 'waiting';

  private constructor(connectOwner: () => Promise<Link>) {
    const parsed = parseHandshake(Buffer.from(LINE));
    if (parsed.kind !== 'relay') throw new Error('not a handshake line');
    const router: ClusterRouter = {
      createForwarder: () => this.#forwarder,
      resolveOwner: () => this.#lookUp('looks up again'),
      takeOver: () => this.#lookUp('takes over'),
      isOwner: () => Promise.resolve(true),
      release: () => undefined,
      connect: connectOwner,
    };
    this.#forwarder = new Forwarder(this, router, parsed.token, parsed.side);
  }

  static start(connectOwner: () => Promise<Link>): Forwarding {
    const forwarding = new Forwarding(connectOwner);
    forwarding.#forwarder.onOwnerResolved(OWNER);
    return forwarding;
  }

  /** Bytes of the partner that the client has received. */
  get bytes(): string {
    return this.#stream.text;
  }

  dispatch(event: SessionEvent): void {
    this.steps.push(event);
    const { next, effects } = transition(this.state, event);
    this.state = next;
    if (effects.some(({ kind }) => kind === 'close-upstream')) this.#forwarder.closeUpstream();
  }

  joinRendezvous(): void {
    this.steps.push('joins the rendezvous');
    this.state = transition(this.state, 'waits').next;
  }

  onData(): void {
    throw new Error('the client has sent nothing');
  }

  startForwarding(link: ClientTransport): Splice {
    const timers = { backpressure: new StallTimer(() => 0), rateLimit: new StallTimer(() => 0) };
    return new Splice(this.transport, link, timers);
  }

  onLinkDelivered(): void {
    // No drain waits for it here.
  }

  guard(action: () => void): void {
    action();
  }

  /** Never resolves: the tests end here. */
  #lookUp(step: Step): Promise<Owner | null> {
    this.steps.push(step);
    return Promise.withResolvers<Owner | null>().promise;
  }
}

for (const kind of ['shared buffer', 'standard streams'] as const) {
  describe(`a forwarded client over ${kind}`, () => {
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

    async function connectOwner(): Promise<Link> {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      await once(socket, 'connect');
      return { stream: backend.adoptSocket(socket, 'tcp'), firstBytes: NO_BYTES };
    }

    /** Forwards a client to an owner, which is a socket that has received the handshake line. */
    async function forward(
      context: TestContext,
      connected: () => Promise<Link> = connectOwner,
    ): Promise<{ forwarding: Forwarding; owner: Socket; isEnded: () => boolean }> {
      const forwarding = Forwarding.start(connected);
      await until(() => sockets.length > 0);
      const owner = sockets.pop();
      if (owner === undefined) throw new Error('no connection');
      context.after(() => owner.destroy());
      owner.setNoDelay(true).on('error', () => undefined);
      const [line] = await once(owner, 'data');
      assert.equal(String(line), LINE);
      let isEnded = false;
      owner.once('end', () => (isEnded = true));
      return { forwarding, owner, isEnded: () => isEnded };
    }

    for (const [reply, step] of Object.entries(STEPS_BY_REPLY)) {
      test(`is closed by the reply "${reply}", and later bytes are ignored`, async (context) => {
        const { forwarding, owner, isEnded } = await forward(context);
        owner.write(`${reply}\nmore`);
        await until(isEnded);
        owner.write('and more');
        owner.end();
        await once(owner, 'close');
        assert.deepEqual(forwarding.steps, [REDIRECTED, step]);
      });
    }

    test('receives the bytes that come with the reply', async (context) => {
      const { forwarding, owner, isEnded } = await forward(context);
      owner.write('ok\nbytes\nand lines');
      await until(() => forwarding.bytes === 'bytes\nand lines');
      forwarding.dispatch('end');
      await until(isEnded);
      owner.end('ignored');
      await once(owner, 'close');
      assert.equal(forwarding.bytes, 'bytes\nand lines');
      assert.deepEqual(forwarding.steps, [REDIRECTED, FORWARDED, 'end']);
    });

    test('gets one event when the link ends, by a FIN or a reset', async (context) => {
      for (const end of [
        (socket: Socket) => socket.end(),
        (socket: Socket) => socket.resetAndDestroy(),
      ] as const) {
        const { forwarding, owner } = await forward(context);
        owner.write('ok\n');
        await until(() => forwarding.steps.includes(FORWARDED));
        end(owner);
        await until(() => forwarding.steps.length === 3);
        owner.destroy();
        await setImmediate();
        assert.deepEqual(forwarding.steps, [REDIRECTED, FORWARDED, 'partner-gone']);
      }
    });

    test('keeps its link through network outages once it has a partner', async (context) => {
      const { forwarding, owner } = await forward(context);
      const keepAlive = (): unknown =>
        keepAliveOptions().find(({ localPort }) => localPort === owner.remotePort)?.keepAlive;
      assert.deepEqual(keepAlive(), [5, 1, 10]);
      owner.write('ok\n');
      await until(() => forwarding.steps.includes(FORWARDED));
      assert.deepEqual(keepAlive(), [30, 30, 9]);
    });

    test('receives bytes that the link client has already read', async (context) => {
      const { forwarding } = await forward(context, async () => ({
        ...(await connectOwner()),
        firstBytes: Buffer.from('ok\nbytes'),
      }));
      assert.deepEqual(forwarding.steps, [REDIRECTED, FORWARDED]);
      assert.equal(forwarding.bytes, 'bytes');
    });

    for (const [name, reply] of Object.entries({
      'an unknown reply': 'elsewhere\n',
      'an empty reply': '\n',
      'an endless line': 'x'.repeat(64),
    })) {
      test(`waits again, once, after ${name}`, async (context) => {
        const { forwarding, owner, isEnded } = await forward(context);
        owner.write(reply);
        await until(isEnded);
        owner.end('ok\n');
        await once(owner, 'close');
        await until(() => forwarding.steps.length === 3);
        assert.deepEqual(forwarding.steps, [REDIRECTED, 'joins the rendezvous', 'looks up again']);
      });
    }

    test('waits again if the link ends in the middle of a reply or is reset', async (context) => {
      const { forwarding, owner, isEnded } = await forward(context);
      owner.end('o');
      await until(isEnded);
      await until(() => forwarding.steps.length === 3);
      assert.deepEqual(forwarding.steps, [REDIRECTED, 'joins the rendezvous', 'looks up again']);
      const { forwarding: other, owner: resetting } = await forward(context);
      resetting.resetAndDestroy();
      await until(() => other.steps.length === 3);
      assert.deepEqual(other.steps, [REDIRECTED, 'joins the rendezvous', 'looks up again']);
    });

    test('waits again if the owner is unreachable, unless the client has disconnected', async () => {
      const forwarding = Forwarding.start(() => Promise.reject(new Error('unreachable')));
      await until(() => forwarding.steps.length === 3);
      assert.deepEqual(forwarding.steps, [REDIRECTED, 'joins the rendezvous', 'takes over']);
      const { promise, reject } = Promise.withResolvers<Link>();
      const leaving = Forwarding.start(() => promise);
      leaving.dispatch('end');
      reject(new Error('unreachable'));
      await promise.catch(() => undefined);
      await setImmediate();
      assert.deepEqual(leaving.steps, [REDIRECTED, 'end']);
    });

    test('has its link closed if the client has disconnected before the link is open', async (context) => {
      const { promise, resolve } = Promise.withResolvers<Link>();
      const leaving = Forwarding.start(() => promise);
      const link = await connectOwner();
      await until(() => sockets.length > 0);
      const owner = sockets.pop();
      if (owner === undefined) throw new Error('no connection');
      context.after(() => owner.destroy());
      owner.on('error', () => undefined).resume();
      leaving.dispatch('end');
      resolve(link);
      await once(owner, 'end');
      assert.deepEqual(leaving.steps, [REDIRECTED, 'end']);
    });
  });
}

test('a reply may arrive in any pieces, in memory that is reused', async () => {
  const outcomes: Readonly<Record<string, { steps: readonly Step[]; bytes: string }>> = {
    'ok\nbytes': { steps: [REDIRECTED, FORWARDED], bytes: 'bytes' },
    'over quota\n': { steps: [REDIRECTED, 'over-quota'], bytes: '' },
    'elsewhere\n': { steps: [REDIRECTED, 'joins the rendezvous'], bytes: '' },
  };
  for (const [text, expected] of Object.entries(outcomes)) {
    assert.deepEqual(await outcome(text, []), expected);
    for (let first = 1; first < text.length; first += 1) {
      for (let second = first; second < text.length; second += 1)
        assert.deepEqual(await outcome(text, [first, second]), expected);
    }
  }
});

/** The result for a client if the owner's bytes are split at these offsets. */
async function outcome(
  text: string,
  cuts: readonly number[],
): Promise<{ steps: readonly Step[]; bytes: string }> {
  const stream = new ScriptedStream();
  const forwarding = Forwarding.start(() => Promise.resolve({ stream, firstBytes: NO_BYTES }));
  await setImmediate();
  for (const [index, start] of [0, ...cuts].entries())
    stream.feed(text.slice(start, cuts[index] ?? text.length));
  // Before the retry timer runs.
  return { steps: [...forwarding.steps], bytes: forwarding.bytes };
}
