import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { REPLIES } from '../../../src/protocol/messages.ts';
import { CLIENT_KEEPALIVE } from '../../../src/transport/byte-stream.ts';
import type { KeepAlive } from '../../../src/transport/byte-stream.ts';
import { LinkTransport, NO_REPLY } from '../../../src/transport/link-transport.ts';
import { ScriptedStream } from '../../support/scripted-stream.ts';

/** Records what is sent, and does not close before the test closes it. */
class RecordingStream extends ScriptedStream {
  sent = '';
  hasEnded = false;
  keepAlive: KeepAlive | null = null;

  override write(bytes: Uint8Array): boolean {
    this.sent += Buffer.from(bytes).toString('latin1');
    return true;
  }

  override setKeepAlive(settings?: KeepAlive): void {
    this.keepAlive = settings ?? null;
  }

  override end(): void {
    this.hasEnded = true;
  }
}

interface Link {
  readonly stream: RecordingStream;
  readonly transport: LinkTransport;
  readonly events: string[];
}

function open(context: TestContext): Link {
  const stream = new RecordingStream();
  const transport = new LinkTransport(stream);
  const events: string[] = [];
  transport.start({
    onData: (bytes) => events.push(Buffer.from(bytes).toString('latin1')),
    onText: () => events.push('text'),
    onWritable: () => events.push('writable'),
    onEnd: () => events.push('end'),
    onClose: () => events.push('close'),
  });
  context.after(() => stream.abort());
  return { stream, transport, events };
}

describe('a client that another relay forwards', () => {
  test('gets one line before it is closed, with a reply or without', (context) => {
    const silent = open(context);
    silent.transport.closeGracefully(1000, false);
    assert.equal(silent.stream.sent, `${NO_REPLY}\n`);
    assert.equal(silent.stream.hasEnded, true);
    const rejected = open(context);
    rejected.transport.send(REPLIES.busy);
    rejected.transport.closeGracefully(1013, false);
    rejected.transport.closeGracefully(1013, false);
    assert.equal(rejected.stream.sent, 'busy\n');
  });

  test('has the keepalive of a client once its reply is "ok", but not after later bytes that are the same', (context) => {
    const paired = open(context);
    assert.notDeepEqual(paired.stream.keepAlive, CLIENT_KEEPALIVE);
    paired.transport.send(REPLIES.ok);
    assert.deepEqual(paired.stream.keepAlive, CLIENT_KEEPALIVE);
    const rejected = open(context);
    rejected.transport.send(REPLIES.busy);
    rejected.transport.send(REPLIES.ok);
    assert.notDeepEqual(rejected.stream.keepAlive, CLIENT_KEEPALIVE);
  });

  test('is heard until it is closed gracefully, and its end is reported even then', (context) => {
    const { stream, transport, events } = open(context);
    assert.equal(transport.kind, 'link');
    stream.feed('line\n');
    transport.closeGracefully(1000, true);
    stream.feed('more');
    assert.deepEqual(events, ['line\n']);
    stream.abort();
    assert.deepEqual(events, ['line\n', 'close']);
  });
});
