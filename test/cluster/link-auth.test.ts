import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  LinkClientAuth,
  LinkLineReader,
  LinkServerAuth,
  MAX_LINK_LINE_BYTES,
  linkAuthKey,
} from '../../src/cluster/link-auth.ts';
import type { LinkAuth, LinkAuthFailure, LinkAuthStep } from '../../src/cluster/link-auth.ts';
import { randomBytesOf } from '../support/bytes.ts';
import { Dice } from '../support/dice.ts';

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');

/** The first line and what is behind it, fed in pieces that end at these places. */
function readCut(bytes: Uint8Array, places: readonly number[]): { line: string | null; rest: string } {
  const reader = new LinkLineReader();
  // Like the shared buffer: the next piece lies where the last one lay.
  const memory = Buffer.alloc(bytes.length);
  for (const [index, end] of [...places, bytes.length].entries()) {
    const start = places[index - 1] ?? 0;
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

describe('a line of a greeting', () => {
  test('is the same in every split, with what is behind it', () => {
    const bytes = bytesOf('a line of some length\nbehind it\nand more');
    const whole = { line: 'a line of some length', rest: 'behind it\nand more' };
    for (let first = 0; first <= bytes.length; first += 1) {
      for (let second = first; second <= bytes.length; second += 1) {
        assert.deepEqual(readCut(bytes, [first, second]), whole, `cut at ${first} and ${second}`);
      }
    }
    const every = Array.from(bytes, (_, index) => index);
    assert.deepEqual(readCut(bytes, every), whole);
  });

  test('may have as many bytes as are allowed, and not one more, in any split', () => {
    const dice = new Dice(7);
    for (let round = 0; round < 300; round += 1) {
      const longest = 'x'.repeat(MAX_LINK_LINE_BYTES);
      const places = [dice.between(0, 150), dice.between(150, MAX_LINK_LINE_BYTES)];
      assert.deepEqual(readCut(bytesOf(`${longest}\n`), places), { line: longest, rest: '' });
      assert.deepEqual(readCut(bytesOf(`${longest}x\n`), places), { line: null, rest: '' });
    }
  });

  test('is given up as soon as it is too long, however much comes at once, and no more of it is looked at', () => {
    const reader = new LinkLineReader();
    assert.equal(reader.read(bytesOf('x'.repeat(MAX_LINK_LINE_BYTES))).kind, 'incomplete');
    const read = reader.read(Buffer.alloc(1_000_000, 'y'));
    assert.equal(read.kind, 'overlong');
    assert.equal(read.kind === 'overlong' && read.text.length, MAX_LINK_LINE_BYTES + 1);
  });

  test('has one character for each byte, whatever byte it is', () => {
    const bytes = Uint8Array.from({ length: 150 }, (_, index) => index + 106);
    const read = new LinkLineReader().read(Buffer.concat([bytes, bytesOf('\n')]));
    assert.equal(read.kind === 'line' && read.text, String.fromCharCode(...bytes));
  });

  test('is followed by the next one', () => {
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

/** HKDF-SHA256 of `SECRET` as RFC 5869 has it, computed elsewhere. */
const KEY_BYTES = Buffer.from('34235166469eea4fa78dc109eb6c822fcdbe26dcbf1d7784ef26c0f220fc2f96', 'hex');

const NONCE = 'b'.repeat(64);

/** A proof, put together without the code under test. */
function proof(role: string, ownerNonce: string, callerNonce: string, version = '2'): string {
  const text = `transit-relay-cluster/${version} ${role} ${ownerNonce} ${callerNonce}`;
  return createHmac('sha256', KEY_BYTES).update(text).digest('hex');
}

function nonceOf(line: string): string {
  return line.slice('transit-relay-cluster/2 '.length).slice(0, 64);
}

/** Feeds `bytes` in pieces of these sizes, the last one of them again and again, until something has come of it. */
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

/** A caller that has heard an owner's opening, and what it answers. */
function answer(ownerNonce: string, key = KEY): { caller: LinkClientAuth; line: string } {
  const caller = new LinkClientAuth(key);
  const step = sendLine(caller, `transit-relay-cluster/2 ${ownerNonce}\n`);
  assert.equal(step.kind, 'incomplete');
  return { caller, line: step.send };
}

function assertAuthFailed(step: LinkAuthStep, error: LinkAuthFailure, message?: string): void {
  assert.equal(step.kind === 'failed' ? step.failure : step.kind, error, message);
}

describe('two relays with one secret', () => {
  test('prove it to each other in three lines', () => {
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

  test('say what this version says, and are understood by what says it', () => {
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
    const { line } = answer(NONCE);
    assert.equal(line.slice(-65), `${proof('caller', NONCE, nonceOf(line))}\n`);
  });

  test('understand each other in every split, and lose nothing of what comes behind', () => {
    const dice = new Dice(1);
    const lastNonce = 'f'.repeat(64);
    const sizes = [
      [1],
      ...Array.from({ length: 200 }, () => [dice.size(200), dice.size(200), dice.size(200)]),
    ];
    for (let cut = 1; cut < 170; cut += 1) sizes.push([cut, 1000]);
    for (const size of sizes) {
      const owner = new LinkServerAuth(KEY);
      const callerLine = `transit-relay-cluster/2 ${NONCE} ${proof('caller', nonceOf(owner.opening), NONCE)}\n`;
      const behind = randomBytesOf(cutOf(size), 30);
      const third = feed(owner, Buffer.concat([Buffer.from(callerLine), behind]), size);
      assert.equal(third.kind, 'authenticated', size.join());
      assert.ok(third.kind === 'authenticated' && behind.equals(third.rest), size.join());

      const caller = new LinkClientAuth(KEY);
      const second = sendLine(caller, `transit-relay-cluster/2 ${lastNonce}\n`, size);
      const ownerLine = `${proof('owner', lastNonce, nonceOf(second.send))}\n`;
      const end = feed(caller, Buffer.concat([Buffer.from(ownerLine), behind]), size);
      assert.ok(end.kind === 'authenticated' && behind.equals(end.rest), size.join());
    }
  });

  test('never use a nonce again', () => {
    const nonces = new Set<string>();
    for (let round = 0; round < 500; round += 1) {
      nonces.add(nonceOf(new LinkServerAuth(KEY).opening));
      nonces.add(nonceOf(answer(NONCE).line));
    }
    assert.equal(nonces.size, 1000);
  });
});

function cutOf(sizes: readonly number[]): number {
  return sizes[0] ?? 0;
}

describe('a greeting fails', () => {
  test('where the secrets differ, and only the owner says a word of it', () => {
    const owner = new LinkServerAuth(KEY);
    const { caller, line } = answer(nonceOf(owner.opening), linkAuthKey('another'));
    const rejection = sendLine(owner, line);
    assert.deepEqual(rejection, { kind: 'failed', send: 'wrong secret\n', failure: 'secret' });
    assert.deepEqual(sendLine(caller, rejection.send, [1]), { kind: 'failed', send: '', failure: 'secret' });
  });

  test('where the owner lets in anybody, and can not prove that it has the secret', () => {
    const { caller } = answer(NONCE);
    assertAuthFailed(sendLine(caller, `${'0'.repeat(64)}\n`), 'secret');
  });

  test('where a recorded greeting is played back, to either end', () => {
    const owner = new LinkServerAuth(KEY);
    const { caller, line } = answer(nonceOf(owner.opening));
    const { send: last } = sendLine(owner, line);
    assert.equal(sendLine(caller, last).kind, 'authenticated');
    assertAuthFailed(sendLine(new LinkServerAuth(KEY), line), 'secret');
    assertAuthFailed(sendLine(answer(nonceOf(owner.opening)).caller, last), 'secret');
  });

  test("where an end's own words come back to it", () => {
    const { caller, line } = answer(NONCE);
    const own = line.slice(-65);
    assertAuthFailed(sendLine(caller, own), 'secret');
    // Both ends have the same nonce here, so that the roles alone tell the proofs apart.
    const owner = new LinkServerAuth(KEY);
    const nonce = nonceOf(owner.opening);
    assertAuthFailed(
      sendLine(owner, `transit-relay-cluster/2 ${nonce} ${proof('owner', nonce, nonce)}\n`),
      'secret',
    );
  });

  test('where the roles, the nonces or the version of a proof are not those of the link', () => {
    const owners: readonly ((nonce: string) => string)[] = [
      (nonce) => proof('owner', nonce, NONCE),
      (nonce) => proof('caller', NONCE, nonce),
      (nonce) => proof('caller', nonce, 'c'.repeat(64)),
      () => proof('caller', NONCE, NONCE),
      (nonce) => proof('caller', nonce, NONCE, '3'),
      (nonce) => proof('caller', nonce, NONCE, '1'),
      (nonce) => proof('caller', nonce, NONCE, '0'),
    ];
    for (const make of owners) {
      const owner = new LinkServerAuth(KEY);
      const made = make(nonceOf(owner.opening));
      assertAuthFailed(
        sendLine(owner, `transit-relay-cluster/2 ${NONCE} ${made}\n`),
        'secret',
        make.toString(),
      );
    }
    const callers: readonly ((nonce: string) => string)[] = [
      (nonce) => proof('caller', NONCE, nonce),
      (nonce) => proof('owner', nonce, NONCE),
      () => proof('owner', NONCE, 'c'.repeat(64)),
      (nonce) => proof('owner', NONCE, nonce, '3'),
    ];
    for (const make of callers) {
      const { caller, line } = answer(NONCE);
      assertAuthFailed(sendLine(caller, `${make(nonceOf(line))}\n`), 'secret', make.toString());
    }
  });

  test('where one character of a proof is another', () => {
    for (let at = 0; at < 64; at += 1) {
      const owner = new LinkServerAuth(KEY);
      const good = proof('caller', nonceOf(owner.opening), NONCE);
      const other = good[at] === '0' ? '1' : '0';
      const bad = good.slice(0, at) + other + good.slice(at + 1);
      assertAuthFailed(sendLine(owner, `transit-relay-cluster/2 ${NONCE} ${bad}\n`), 'secret', `at ${at}`);
    }
  });

  const proved = `${NONCE} ${'0'.repeat(64)}`;
  const toOwner: readonly (readonly [line: string, failure: LinkAuthFailure])[] = [
    [`transit-relay-cluster/3 ${proved}\n`, 'version'],
    [`transit-relay-cluster/0 ${proved}\n`, 'not a relay'],
    [`transit-relay-cluster/10 ${proved}\n`, 'version'],
    ['transit-relay-cluster/3 and whatever it says\n', 'version'],
    ['transit-relay-cluster/3\n', 'version'],
    [`transit-relay-cluster/3 ${'x'.repeat(300)}`, 'version'],
    [`transit-relay-cluster/2 ${'x'.repeat(300)}`, 'not a relay'],
    [`transit-relay-cluster/2222222222 ${proved}\n`, 'not a relay'],
    [`transit-relay-cluster/ ${proved}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${proved} \n`, 'not a relay'],
    [`transit-relay-cluster/2 ${proved}\r\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${proved}0\n`, 'not a relay'],
    [`transit-relay-cluster/2  ${proved}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE.toUpperCase()} ${'0'.repeat(64)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE} ${'g'.repeat(64)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE} ${'0'.repeat(62)}\n`, 'not a relay'],
    ['wrong secret\n', 'not a relay'],
    ['\n', 'not a relay'],
    // Judged by their first bytes: what sends them may never send a newline.
    ['GET / HTTP/1.1', 'not a relay'],
    [`please relay ${'0'.repeat(64)}`, 'not a relay'],
    ['\x16\x03\x01', 'not a relay'],
    ['transit-relay-Cluster/', 'not a relay'],
  ];
  for (const [line, error] of toOwner) {
    test(`with '${error}' where a caller says ${JSON.stringify(line)}, in any split`, () => {
      for (const sizes of [[], [1], [20, 7]]) {
        const step = sendLine(new LinkServerAuth(KEY), line, sizes);
        assert.deepEqual(step, { kind: 'failed', send: '', failure: error });
      }
    });
  }

  const toCaller: readonly (readonly [line: string, failure: LinkAuthFailure])[] = [
    [`transit-relay-cluster/3 ${NONCE}\n`, 'version'],
    ['transit-relay-cluster/3 and whatever it says\n', 'version'],
    [`transit-relay-cluster/2 ${proved}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE.slice(1)}\n`, 'not a relay'],
    [`transit-relay-cluster/2 ${NONCE}\r\n`, 'not a relay'],
    ['wrong secret\n', 'not a relay'],
    ['SSH-2.0-OpenSSH_9.2p1', 'not a relay'],
  ];
  for (const [line, error] of toCaller) {
    test(`with '${error}' where an owner says ${JSON.stringify(line)}, in any split`, () => {
      for (const sizes of [[], [1], [20, 7]]) {
        assertAuthFailed(sendLine(new LinkClientAuth(KEY), line, sizes), error);
      }
    });
  }

  test('where an owner goes on before it has heard the caller', () => {
    assertAuthFailed(sendLine(new LinkClientAuth(KEY), `transit-relay-cluster/2 ${NONCE}\n0`), 'not a relay');
  });

  test('where an owner says anything instead of its proof', () => {
    for (const line of [
      '\n',
      'ok\n',
      'wrong secret \n',
      `${NONCE}0\n`,
      `${'B'.repeat(64)}\n`,
      'x'.repeat(300),
    ]) {
      assertAuthFailed(sendLine(answer(NONCE).caller, line, [9]), 'not a relay', line);
    }
  });

  test('at the latest with the byte that makes a line too long, whatever the bytes are', () => {
    const dice = new Dice(3);
    const good = Buffer.from(`transit-relay-cluster/2 ${proved}`);
    for (let round = 0; round < 2000; round += 1) {
      const bytes = Buffer.concat([
        good.subarray(0, dice.between(0, good.length)),
        randomBytesOf(round, MAX_LINK_LINE_BYTES + 1),
      ]).subarray(0, MAX_LINK_LINE_BYTES + 1);
      const sizes = [dice.size(100), dice.size(300)];
      assert.equal(feed(new LinkServerAuth(KEY), bytes, sizes).kind, 'failed');
      assert.equal(feed(new LinkClientAuth(KEY), bytes, sizes).kind, 'failed');
      assert.equal(feed(answer(NONCE).caller, bytes, sizes).kind, 'failed');
    }
  });
});
