import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  LinkClientAuth,
  LinkLineReader,
  LinkServerAuth,
  MAX_LINK_LINE_BYTES,
  linkAuthKey,
} from '../../../src/cluster/link-auth.ts';
import type { LinkAuth, LinkAuthFailure, LinkAuthStep } from '../../../src/cluster/link-auth.ts';
import { randomBytesOf } from '../../support/bytes.ts';
import { Dice } from '../../support/dice.ts';

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The first line and the bytes after it, if the input is split at these offsets. */
function readCut(bytes: Uint8Array, cuts: readonly number[]): { line: string | null; rest: string } {
  const reader = new LinkLineReader();
  // As in the shared read buffer, each piece overwrites the previous one.
  const memory = Buffer.alloc(bytes.length);
  for (const [index, end] of [...cuts, bytes.length].entries()) {
    const start = cuts[index - 1] ?? 0;
    memory.fill(0x2e);
    memory.set(bytes.subarray(start, end));
    const read = reader.read(memory.subarray(0, end - start));
    if (read.kind === 'overlong') return { line: null, rest: '' };
    if (read.kind === 'line') {
      const rest = Buffer.concat([read.rest, bytes.subarray(end)]).toString('latin1');
      return { line: read.text, rest };
    }
  }
  return { line: null, rest: '' };
}

describe('the line reader of link authentication', () => {
  test('returns the line and the bytes after it for any split', () => {
    const bytes = bytesOf('a line of some length\nbehind it\nand more');
    const expected = { line: 'a line of some length', rest: 'behind it\nand more' };
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 1) {
        assert.deepEqual(readCut(bytes, [first, second]), expected, `cut at ${first} and ${second}`);
      }
    }
    const allCuts = Array.from(bytes, (_, index) => index);
    assert.deepEqual(readCut(bytes, allCuts), expected);
  });

  test('accepts the maximum line length and not one byte more, for any split', () => {
    const random = new Dice(7);
    for (let round = 0; round < 300; round += 1) {
      const longest = 'x'.repeat(MAX_LINK_LINE_BYTES);
      const cuts = [random.between(0, 150), random.between(150, MAX_LINK_LINE_BYTES)];
      assert.deepEqual(readCut(bytesOf(`${longest}\n`), cuts), { line: longest, rest: '' });
      assert.deepEqual(readCut(bytesOf(`${longest}x\n`), cuts), { line: null, rest: '' });
    }
  });

  test('rejects a line as soon as it is too long, and keeps one byte more than the maximum', () => {
    const reader = new LinkLineReader();
    assert.equal(reader.read(bytesOf('x'.repeat(MAX_LINK_LINE_BYTES))).kind, 'incomplete');
    const read = reader.read(Buffer.alloc(1_000_000, 'y'));
    assert.equal(read.kind, 'overlong');
    assert.equal(read.kind === 'overlong' && read.text.length, MAX_LINK_LINE_BYTES + 1);
  });

  test('decodes each byte as one character', () => {
    const bytes = Uint8Array.from({ length: 150 }, (_, index) => index + 106);
    const read = new LinkLineReader().read(Buffer.concat([bytes, bytesOf('\n')]));
    assert.equal(read.kind === 'line' && read.text, String.fromCharCode(...bytes));
  });

  test('continues with the next line', () => {
    const reader = new LinkLineReader();
    assert.equal(reader.read(bytesOf('fir')).kind, 'incomplete');
    const first = reader.read(bytesOf('st\nsecond\n'));
    assert.equal(first.kind === 'line' && first.text, 'first');
    const second = reader.read(first.kind === 'line' ? first.rest : new Uint8Array());
    assert.equal(second.kind === 'line' && second.text, 'second');
  });
});

const SECRET = 'correct horse';
const KEY = linkAuthKey(SECRET);

/** HKDF-SHA256 (RFC 5869) of `SECRET`, computed with another implementation. */
const KEY_BYTES = Buffer.from('34235166469eea4fa78dc109eb6c822fcdbe26dcbf1d7784ef26c0f220fc2f96', 'hex');

const NONCE = 'b'.repeat(64);

/** A proof, computed without the code under test. */
function proof(role: string, ownerNonce: string, callerNonce: string, version = '2'): string {
  const text = `transit-relay-cluster/${version} ${role} ${ownerNonce} ${callerNonce}`;
  return createHmac('sha256', KEY_BYTES).update(text).digest('hex');
}

function nonceOf(line: string): string {
  return line.slice('transit-relay-cluster/2 '.length).slice(0, 64);
}

/**
 * Feeds `bytes` in pieces of these sizes, repeating the last size, until there is a result or a line to send.
 */
function feed(auth: LinkAuth, bytes: Uint8Array, sizes: readonly number[]): LinkAuthStep {
  let at = 0;
  for (let index = 0; at < bytes.length; index += 1) {
    const size = sizes[Math.min(index, sizes.length - 1)] ?? bytes.length;
    const step = auth.receive(Uint8Array.from(bytes.subarray(at, at + size)));
    at += size;
    if (step.kind === 'authenticated')
      return { ...step, rest: Buffer.concat([step.rest, bytes.subarray(Math.min(at, bytes.length))]) };
    if (step.kind === 'failed' || step.send !== '') return step;
  }
  return { kind: 'incomplete', send: '' };
}

function sendLine(auth: LinkAuth, text: string, sizes: readonly number[] = []): LinkAuthStep {
  return feed(auth, Buffer.from(text, 'latin1'), sizes);
}

/** A caller that has received an owner's first line, and the line that it sends in reply. */
function respond(ownerNonce: string, key = KEY): { caller: LinkClientAuth; line: string } {
  const caller = new LinkClientAuth(key);
  const step = sendLine(caller, `transit-relay-cluster/2 ${ownerNonce}\n`);
  assert.equal(step.kind, 'incomplete');
  return { caller, line: step.send };
}

function assertAuthFailed(step: LinkAuthStep, error: LinkAuthFailure, message?: string): void {
  assert.equal(step.kind === 'failed' ? step.failure : step.kind, error, message);
}

describe('link authentication between relays with the same secret', () => {
  test('succeeds after three lines', () => {
    const owner = new LinkServerAuth(KEY);
    const caller = new LinkClientAuth(KEY);
    assert.match(owner.opening, /^transit-relay-cluster\/2 [0-9a-f]{64}\n$/u);
    const second = sendLine(caller, owner.opening);
    assert.match(second.send, /^transit-relay-cluster\/2 [0-9a-f]{64} [0-9a-f]{64}\n$/u);
    const third = sendLine(owner, second.send);
    assert.equal(third.kind, 'authenticated');
    assert.match(third.send, /^[0-9a-f]{64}\n$/u);
    assert.equal(sendLine(caller, third.send).kind, 'authenticated');
  });

  test('sends and accepts exactly the lines of this protocol version', () => {
    assert.equal(
      proof('caller', 'a'.repeat(64), NONCE),
      'c89591651f541903dfc7929ae8845b0782af0a9ae1ea79e4eb539d245b46722d',
    );
    const owner = new LinkServerAuth(KEY);
    const nonce = nonceOf(owner.opening);
    const third = sendLine(owner, `transit-relay-cluster/2 ${NONCE} ${proof('caller', nonce, NONCE)}\n`);
    assert.deepEqual(third, {
      kind: 'authenticated',
      send: `${proof('owner', nonce, NONCE)}\n`,
      rest: Buffer.alloc(0),
    });
    const { line } = respond(NONCE);
    assert.equal(line.slice(-65), `${proof('caller', NONCE, nonceOf(line))}\n`);
  });

  test('succeeds for any split, and keeps the bytes that follow', () => {
    const random = new Dice(1);
    const lastNonce = 'f'.repeat(64);
    const sizes = [
      [1],
      ...Array.from({ length: 200 }, () => [random.size(200), random.size(200), random.size(200)]),
    ];
    for (let cut = 1; cut < 170; cut += 1) sizes.push([cut, 1000]);
    for (const size of sizes) {
      const owner = new LinkServerAuth(KEY);
      const callerLine = `transit-relay-cluster/2 ${NONCE} ${proof('caller', nonceOf(owner.opening), NONCE)}\n`;
      const payload = randomBytesOf(cutOf(size), 30);
      const third = feed(owner, Buffer.concat([Buffer.from(callerLine), payload]), size);
      assert.equal(third.kind, 'authenticated', size.join());
      assert.ok(third.kind === 'authenticated' && payload.equals(third.rest), size.join());

      const caller = new LinkClientAuth(KEY);
      const second = sendLine(caller, `transit-relay-cluster/2 ${lastNonce}\n`, size);
      const ownerLine = `${proof('owner', lastNonce, nonceOf(second.send))}\n`;
      const end = feed(caller, Buffer.concat([Buffer.from(ownerLine), payload]), size);
      assert.ok(end.kind === 'authenticated' && payload.equals(end.rest), size.join());
    }
  });

  test('uses each nonce once', () => {
    const nonces = new Set<string>();
    for (let round = 0; round < 500; round += 1) {
      nonces.add(nonceOf(new LinkServerAuth(KEY).opening));
      nonces.add(nonceOf(respond(NONCE).line));
    }
    assert.equal(nonces.size, 1000);
  });
});

function cutOf(sizes: readonly number[]): number {
  return sizes[0] ?? 0;
}

describe('link authentication fails', () => {
  test('if the secrets differ, and only the owner reports it to the other end', () => {
    const owner = new LinkServerAuth(KEY);
    const { caller, line } = respond(nonceOf(owner.opening), linkAuthKey('another'));
    const rejection = sendLine(owner, line);
    assert.deepEqual(rejection, { kind: 'failed', send: 'wrong secret\n', failure: 'secret' });
    assert.deepEqual(sendLine(caller, rejection.send, [1]), { kind: 'failed', send: '', failure: 'secret' });
  });

  test('if the owner accepts any caller but has no valid proof itself', () => {
    const { caller } = respond(NONCE);
    assertAuthFailed(sendLine(caller, `${'0'.repeat(64)}\n`), 'secret');
  });

  test('if recorded lines are replayed to either end', () => {
    const owner = new LinkServerAuth(KEY);
    const { caller, line } = respond(nonceOf(owner.opening));
    const { send: last } = sendLine(owner, line);
    assert.equal(sendLine(caller, last).kind, 'authenticated');
    assertAuthFailed(sendLine(new LinkServerAuth(KEY), line), 'secret');
    assertAuthFailed(sendLine(respond(nonceOf(owner.opening)).caller, last), 'secret');
  });

  test('if an end receives its own proof', () => {
    const { caller, line } = respond(NONCE);
    const own = line.slice(-65);
    assertAuthFailed(sendLine(caller, own), 'secret');
    // Both nonces are equal here, so the proofs differ by role only.
    const owner = new LinkServerAuth(KEY);
    const nonce = nonceOf(owner.opening);
    assertAuthFailed(
      sendLine(owner, `transit-relay-cluster/2 ${nonce} ${proof('owner', nonce, nonce)}\n`),
      'secret',
    );
  });

  test('if the role, a nonce or the version of a proof does not match the link', () => {
    const owners: readonly ((nonce: string) => string)[] = [
      (nonce) => proof('owner', nonce, NONCE),
      (nonce) => proof('caller', NONCE, nonce),
      (nonce) => proof('caller', nonce, 'c'.repeat(64)),
      () => proof('caller', NONCE, NONCE),
      (nonce) => proof('caller', nonce, NONCE, '3'),
      (nonce) => proof('caller', nonce, NONCE, '1'),
      (nonce) => proof('caller', nonce, NONCE, '0'),
    ];
    for (const forge of owners) {
      const owner = new LinkServerAuth(KEY);
      const forged = forge(nonceOf(owner.opening));
      assertAuthFailed(
        sendLine(owner, `transit-relay-cluster/2 ${NONCE} ${forged}\n`),
        'secret',
        forge.toString(),
      );
    }
    const callers: readonly ((nonce: string) => string)[] = [
      (nonce) => proof('caller', NONCE, nonce),
      (nonce) => proof('owner', nonce, NONCE),
      () => proof('owner', NONCE, 'c'.repeat(64)),
      (nonce) => proof('owner', NONCE, nonce, '3'),
    ];
    for (const forge of callers) {
      const { caller, line } = respond(NONCE);
      assertAuthFailed(sendLine(caller, `${forge(nonceOf(line))}\n`), 'secret', forge.toString());
    }
  });

  test('if one character of a proof is wrong', () => {
    for (let at = 0; at < 64; at += 1) {
      const owner = new LinkServerAuth(KEY);
      const valid = proof('caller', nonceOf(owner.opening), NONCE);
      const other = valid[at] === '0' ? '1' : '0';
      const invalid = valid.slice(0, at) + other + valid.slice(at + 1);
      assertAuthFailed(
        sendLine(owner, `transit-relay-cluster/2 ${NONCE} ${invalid}\n`),
        'secret',
        `at ${at}`,
      );
    }
  });

  const secondLine = `${NONCE} ${'0'.repeat(64)}`;
  const toOwner: readonly (readonly [line: string, failure: LinkAuthFailure])[] = [
    [`transit-relay-cluster/3 ${secondLine}\n`, 'version'],
    [`transit-relay-cluster/0 ${secondLine}\n`, 'not a relay'],
    [`transit-relay-cluster/10 ${secondLine}\n`, 'version'],
    ['transit-relay-cluster/3 and any other text\n', 'version'],
    ['transit-relay-cluster/3\n', 'version'],
    [`transit-relay-cluster/3 ${'x'.repeat(300)}`, 'version'],
    [`transit-relay-cluster/2 ${'x'.repeat(300)}`, 'not a relay'],
    [`transit-relay-cluster/2222222222 ${secondLine}\n`, 'not a relay'],
    [`transit-relay-cluster/ ${secondLine}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${secondLine} \n`, 'not a relay'],
    [`transit-relay-cluster/2 ${secondLine}\r\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${secondLine}0\n`, 'not a relay'],
    [`transit-relay-cluster/2  ${secondLine}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE.toUpperCase()} ${'0'.repeat(64)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE} ${'g'.repeat(64)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE} ${'0'.repeat(62)}\n`, 'not a relay'],
    ['wrong secret\n', 'not a relay'],
    ['\n', 'not a relay'],
    // Rejected by their first bytes, because such peers may never send a newline.
    ['GET / HTTP/1.1', 'not a relay'],
    [`please relay ${'0'.repeat(64)}`, 'not a relay'],
    ['\x16\x03\x01', 'not a relay'],
    ['transit-relay-Cluster/', 'not a relay'],
  ];
  for (const [line, error] of toOwner) {
    test(`with '${error}' if a caller sends ${JSON.stringify(line)}, in any split`, () => {
      for (const sizes of [[], [1], [20, 7]]) {
        const step = sendLine(new LinkServerAuth(KEY), line, sizes);
        assert.deepEqual(step, { kind: 'failed', send: '', failure: error });
      }
    });
  }

  const toCaller: readonly (readonly [line: string, failure: LinkAuthFailure])[] = [
    [`transit-relay-cluster/3 ${NONCE}\n`, 'version'],
    ['transit-relay-cluster/3 and any other text\n', 'version'],
    [`transit-relay-cluster/2 ${secondLine}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE.slice(1)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE}\r\n`, 'not a relay'],
    ['wrong secret\n', 'not a relay'],
    ['SSH-2.0-OpenSSH_9.2p1', 'not a relay'],
  ];
  for (const [line, error] of toCaller) {
    test(`with '${error}' if an owner sends ${JSON.stringify(line)}, in any split`, () => {
      for (const sizes of [[], [1], [20, 7]]) {
        assertAuthFailed(sendLine(new LinkClientAuth(KEY), line, sizes), error);
      }
    });
  }

  test('if an owner sends more before it has received the caller’s line', () => {
    assertAuthFailed(sendLine(new LinkClientAuth(KEY), `transit-relay-cluster/2 ${NONCE}\n0`), 'not a relay');
  });

  test('if an owner sends anything else instead of its proof', () => {
    for (const line of [
      '\n',
      'ok\n',
      'wrong secret \n',
      `${NONCE}0\n`,
      `${'B'.repeat(64)}\n`,
      'x'.repeat(300),
    ]) {
      assertAuthFailed(sendLine(respond(NONCE).caller, line, [9]), 'not a relay', line);
    }
  });

  test('at the latest with the byte that makes a line too long, for any bytes', () => {
    const random = new Dice(3);
    const valid = Buffer.from(`transit-relay-cluster/2 ${secondLine}`);
    for (let round = 0; round < 2000; round += 1) {
      const bytes = Buffer.concat([
        valid.subarray(0, random.between(0, valid.length)),
        randomBytesOf(round, MAX_LINK_LINE_BYTES + 1),
      ]).subarray(0, MAX_LINK_LINE_BYTES + 1);
      const sizes = [random.size(100), random.size(300)];
      assert.equal(feed(new LinkServerAuth(KEY), bytes, sizes).kind, 'failed');
      assert.equal(feed(new LinkClientAuth(KEY), bytes, sizes).kind, 'failed');
      assert.equal(feed(respond(NONCE).caller, bytes, sizes).kind, 'failed');
    }
  });
});
