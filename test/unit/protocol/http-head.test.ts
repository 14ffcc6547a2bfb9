import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HttpHeadReader, stripChunkedEncoding } from '../../../src/protocol/http-head.ts';

const REQUEST = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';

/** The result for bytes in pieces: each head, `too-large`, and the bytes after the last head. */
function headsIn(bytes: string, pieceBytes: number, maxBytes = 100): string[] {
  const head = new HttpHeadReader(maxBytes);
  const found: string[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    for (let piece: Uint8Array = Buffer.from(bytes.slice(at, at + pieceBytes)); piece.length > 0;) {
      const progress = head.push(piece);
      if (progress.kind === 'incomplete') break;
      found.push(progress.kind === 'complete' ? Buffer.from(progress.head).toString() : progress.kind);
      if (progress.kind === 'too-large') return found;
      piece = progress.rest;
    }
  }
  return found;
}

describe('the head of a request', () => {
  for (const pieceBytes of [1, 2, 3, 7, 26, 27, 28, 1000]) {
    test(`ends at its empty line, ${pieceBytes} bytes at a time`, () => {
      assert.deepEqual(headsIn(REQUEST.repeat(3), pieceBytes), [REQUEST, REQUEST, REQUEST]);
    });

    test(`ends at two consecutive line ends, ${pieceBytes} bytes at a time`, () => {
      for (const bare of ['GET / HTTP/1.1\nHost: x\n\n', 'GET / HTTP/1.1\nHost: x\n\r\n']) {
        assert.deepEqual(headsIn(bare + REQUEST, pieceBytes), [bare, REQUEST]);
      }
    });

    test(`has no empty line before it, ${pieceBytes} bytes at a time`, () => {
      assert.deepEqual(headsIn(`\r\n\n\r\n\r\n${REQUEST}`, pieceBytes), [REQUEST]);
    });

    test(`may be as long as the limit but not longer, ${pieceBytes} bytes at a time`, () => {
      assert.deepEqual(headsIn(REQUEST + REQUEST, pieceBytes, REQUEST.length), [REQUEST, REQUEST]);
      assert.deepEqual(headsIn(REQUEST, pieceBytes, REQUEST.length - 1), ['too-large']);
      assert.deepEqual(headsIn('x'.repeat(200), pieceBytes), ['too-large']);
      assert.deepEqual(headsIn('x'.repeat(100), pieceBytes), []);
    });
  }

  test('is copied, and the bytes after it are not', () => {
    const bytes = Buffer.from(`${REQUEST}rest`);
    const progress = new HttpHeadReader(100).push(bytes);
    assert.ok(progress.kind === 'complete');
    bytes.fill('x');
    assert.equal(Buffer.from(progress.head).toString(), REQUEST);
    assert.equal(Buffer.from(progress.rest).toString(), 'xxxx');
  });

  test('reports whether it has begun', () => {
    const head = new HttpHeadReader(100);
    head.push(Buffer.from('\r\n'));
    assert.equal(head.isStarted, false);
    head.push(Buffer.from('G'));
    assert.equal(head.isStarted, true);
    head.push(Buffer.from('\n\n'));
    assert.equal(head.isStarted, false);
  });
});

describe('the head of a WebSocket upgrade', () => {
  const without = (text: string): string | null => {
    const head = stripChunkedEncoding(Buffer.from(text, 'latin1'));
    return head === null ? null : Buffer.from(head).toString('latin1');
  };
  const [first, upgrade, last] = ['GET / HTTP/1.1\r\n', 'Upgrade: WebSocket\r\n', 'X: \xff\r\n\r\n'];

  test('loses the header line of a chunked body', () => {
    for (const line of [
      'Transfer-Encoding: chunked\r\n',
      'transfer-encoding:chunked \t\r\n',
      'TRANSFER-ENCODING: Chunked\n',
    ]) {
      assert.equal(without(first + upgrade + line + last), first + upgrade + last);
      assert.equal(without(first + line + upgrade + last), first + upgrade + last);
    }
  });

  test('is not changed without that line, with another coding, and without an upgrade', () => {
    const line = 'Transfer-Encoding: chunked\r\n';
    for (const text of [
      first + upgrade + last,
      first + line + last,
      first + line + 'Upgrade: h2c\r\n' + last,
      first + upgrade + 'Transfer-Encoding: gzip, chunked\r\n' + last,
      first + upgrade + 'X-Transfer-Encoding: chunked\r\n' + last,
      `${first}${upgrade}${line} folded\r\n${last}`,
    ])
      assert.equal(without(text), null, JSON.stringify(text));
  });
});
