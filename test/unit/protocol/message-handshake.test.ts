import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { MessageHandshake } from '../../../src/protocol/message-handshake.ts';

const TOKEN = 'a1'.repeat(32);
const SIDE = 'b2'.repeat(8);
const UNSIDED = `please relay ${TOKEN}`;
const SIDED = `please relay ${TOKEN} for side ${SIDE}`;
const FORMS = [
  { name: 'an unsided line', line: UNSIDED, end: '' },
  { name: 'an unsided line with its newline', line: UNSIDED, end: '\n' },
  { name: 'a sided line', line: SIDED, end: '' },
  { name: 'a sided line with its newline', line: SIDED, end: '\n' },
] as const;

/** Payload whose messages could be mistaken for a part of the line. */
const PAYLOAD = ['transit sender', '\n', ' for side ', '\n\n', `${SIDED}\n`, '\0\xff'];

const toBytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const toText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** The byte stream of the messages, after the caller has flushed it because nothing more arrived. */
function streamOf(messages: readonly string[]): string {
  const handshake = new MessageHandshake();
  const parts = messages.map((message) => toText(handshake.push(toBytes(message))));
  if (handshake.isAmbiguous) parts.push(toText(handshake.flush()));
  assert.equal(handshake.isAmbiguous, false);
  return parts.join('');
}

/** Cuts a text before each of these positions. */
function cutAt(text: string, places: readonly number[]): string[] {
  const inside = [...new Set(places)].filter((at) => at > 0 && at < text.length);
  const cuts = [0, ...inside.toSorted((a, b) => a - b), text.length];
  return cuts.slice(1).map((to, index) => text.slice(cuts[index], to));
}

for (const { name, line, end } of FORMS) {
  const sent = line + end;
  describe(`${name} as a message`, () => {
    test('becomes the line with its newline', () => {
      assert.equal(streamOf([sent]), `${line}\n`);
    });

    test('leaves the messages after it unchanged', () => {
      assert.equal(streamOf([sent, ...PAYLOAD]), `${line}\n${PAYLOAD.join('')}`);
    });

    test('may be split into two messages anywhere', () => {
      for (let cut = 0; cut <= sent.length; cut += 1) {
        const messages = cutAt(sent, [cut]);
        assert.equal(streamOf(messages), `${line}\n`, `cut at ${cut}`);
        assert.equal(streamOf([...messages, ...PAYLOAD]), `${line}\n${PAYLOAD.join('')}`, `cut at ${cut}`);
      }
    });

    test('may arrive byte by byte, and its payload too', () => {
      assert.equal(
        streamOf([...sent.split(''), ...PAYLOAD.flatMap((message) => message.split(''))]),
        `${line}\n${PAYLOAD.join('')}`,
      );
    });

    test('is not changed by empty messages anywhere', () => {
      const messages = [...sent.split(''), ...PAYLOAD].flatMap((message) => ['', message]);
      assert.equal(streamOf([...messages, '']), `${line}\n${PAYLOAD.join('')}`);
    });
  });
}

describe('the line', () => {
  test('is emitted as soon as it is complete with a side', () => {
    const handshake = new MessageHandshake();
    assert.equal(toText(handshake.push(toBytes(SIDED))), `${SIDED}\n`);
    assert.equal(handshake.isAmbiguous, false);
  });

  test('is emitted as soon as its newline arrives', () => {
    for (const line of [`${SIDED}\n`, `${UNSIDED}\n`]) {
      const handshake = new MessageHandshake();
      assert.equal(toText(handshake.push(toBytes(line))), line);
      assert.equal(handshake.isDone, true);
    }
  });

  test('is buffered while it is incomplete', () => {
    const handshake = new MessageHandshake();
    assert.equal(toText(handshake.push(toBytes(SIDED.slice(0, -1)))), '');
    assert.equal(handshake.isAmbiguous, false);
    assert.equal(handshake.isDone, false);
    assert.equal(toText(handshake.flush()), '', 'half a line does not settle');
    assert.equal(toText(handshake.push(toBytes(SIDED.slice(-1)))), `${SIDED}\n`);
  });

  test('is ambiguous after a token, and only there', () => {
    for (let cut = 0; cut <= SIDED.length; cut += 1) {
      const handshake = new MessageHandshake();
      handshake.push(toBytes(SIDED.slice(0, cut)));
      assert.equal(handshake.isAmbiguous, cut === UNSIDED.length, `after ${cut} bytes`);
    }
  });

  test('is not ambiguous once a side follows', () => {
    const handshake = new MessageHandshake();
    assert.equal(toText(handshake.push(toBytes(UNSIDED))), '');
    assert.equal(toText(handshake.push(toBytes(' '))), '');
    assert.equal(handshake.isAmbiguous, false);
    assert.equal(toText(handshake.push(toBytes(`for side ${SIDE}`))), `${SIDED}\n`);
  });

  test('is not ambiguous once payload follows', () => {
    const handshake = new MessageHandshake();
    handshake.push(toBytes(UNSIDED));
    assert.equal(toText(handshake.push(toBytes('transit'))), `${UNSIDED}\ntransit`);
    assert.equal(handshake.isDone, true);
  });

  test('is flushed once, and everything after that is payload', () => {
    const handshake = new MessageHandshake();
    handshake.push(toBytes(UNSIDED));
    assert.equal(toText(handshake.flush()), `${UNSIDED}\n`);
    assert.equal(toText(handshake.flush()), '');
    assert.equal(toText(handshake.push(toBytes('\n'))), '\n');
    assert.equal(toText(handshake.push(toBytes(' for side '))), ' for side ');
  });

  test('may be in one message with payload if it has its newline', () => {
    for (const line of [SIDED, UNSIDED]) {
      assert.equal(streamOf([`${line}\npay`, 'load']), `${line}\npayload`);
    }
    assert.equal(streamOf([UNSIDED, '\npayload']), `${UNSIDED}\npayload`);
  });
});

describe('a message of one newline', () => {
  test('is part of a complete line that has no newline yet', () => {
    assert.equal(streamOf([SIDED, '\n', 'payload']), `${SIDED}\npayload`);
    assert.equal(streamOf([UNSIDED, '\n', 'payload']), `${UNSIDED}\npayload`);
  });

  test('is payload after a line that has its newline already', () => {
    assert.equal(streamOf([`${SIDED}\n`, '\n', 'x']), `${SIDED}\n\nx`);
    assert.equal(streamOf([`${UNSIDED}\n`, '\n', 'x']), `${UNSIDED}\n\nx`);
  });

  test('is part of the line only once', () => {
    assert.equal(streamOf([SIDED, '\n', '\n']), `${SIDED}\n\n`);
    assert.equal(streamOf([UNSIDED, '\n', '\n']), `${UNSIDED}\n\n`);
  });

  test('is payload after other payload', () => {
    assert.equal(streamOf([SIDED, 'x', '\n']), `${SIDED}\nx\n`);
    assert.equal(streamOf([UNSIDED, 'x', '\n']), `${UNSIDED}\nx\n`);
  });

  test('is distinguished from payload only by its length after a line with a side and without newline', () => {
    assert.equal(streamOf([SIDED, '\npayload']), `${SIDED}\n\npayload`);
  });

  test('alone is a bad line', () => {
    assert.equal(parseHandshake(toBytes(streamOf(['\n']))).kind, 'bad');
  });
});

describe('garbage', () => {
  test('is emitted as a line immediately, at its first wrong byte', () => {
    for (let at = 0; at < SIDED.length; at += 1) {
      const handshake = new MessageHandshake();
      assert.equal(toText(handshake.push(toBytes(SIDED.slice(0, at)))), '', `${at} good bytes`);
      const garbage = `${SIDED.slice(0, at)}-`;
      const expected = at === UNSIDED.length ? `${UNSIDED}\n-` : `${garbage}\n`;
      assert.equal(toText(handshake.push(toBytes('-'))), expected, `${at} good bytes`);
      assert.equal(handshake.isDone, true);
    }
  });

  test('in one message is a bad line', () => {
    const cases = ['x', 'GET / HTTP/1.1', `${SIDED}0`, ` ${SIDED}`, `${SIDED} `, `${SIDED}\r`, `${UNSIDED}0`];
    for (const garbage of cases) {
      assert.equal(streamOf([garbage]), `${garbage}\n`);
      assert.equal(parseHandshake(toBytes(streamOf([garbage]))).kind, 'bad', garbage);
    }
  });

  test('that has a newline gets no second one', () => {
    for (const garbage of ['\n', 'hello\n', `${SIDED}\r\n`, 'hello\nworld', `${'x'.repeat(1025)}\n`]) {
      assert.equal(streamOf([garbage]), garbage);
    }
  });

  test('is overlong from 1025 bytes and bad below', () => {
    for (const start of ['', SIDED]) {
      assert.equal(parseHandshake(toBytes(streamOf([start.padEnd(1024, 'x')]))).kind, 'bad');
      assert.equal(parseHandshake(toBytes(streamOf([start.padEnd(1025, 'x')]))).kind, 'overlong');
      assert.equal(parseHandshake(toBytes(streamOf([start.padEnd(100_000, 'x')]))).kind, 'overlong');
    }
  });
});

describe('random messages', () => {
  // Payload that may follow a line without a newline: it begins with neither space nor newline (see the
  // class).
  const payload = fc
    .uint8Array({ minLength: 1, maxLength: 30 })
    .filter(([first]) => first !== 0x0a && first !== 0x20)
    .map((bytes) => toText(bytes));
  const places = fc.array(fc.nat({ max: SIDED.length + 40 }), { maxLength: 12 });

  test('of a line with its newline, and of its payload, become the same stream', () => {
    fc.assert(
      fc.property(fc.constantFrom(SIDED, UNSIDED), fc.option(payload), places, (line, rest, cuts) => {
        const stream = `${line}\n${rest ?? ''}`;
        // A newline that is cut off from a line with a side is alone in its message. Otherwise it would be
        // payload.
        const allCuts = cuts.includes(SIDED.length) ? [...cuts, SIDED.length + 1] : cuts;
        assert.equal(streamOf(cutAt(stream, allCuts)), stream);
      }),
      { numRuns: 1000 },
    );
  });

  test('of a line without a newline, and of its payload, become the same stream', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(SIDED, UNSIDED),
        fc.option(payload, { nil: '' }),
        places,
        (line, rest, cuts) => {
          assert.equal(streamOf(cutAt(line + rest, [...cuts, line.length])), `${line}\n${rest}`);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('of any kind lose nothing, and at most one newline is added', () => {
    const message = fc.oneof(
      fc.uint8Array({ maxLength: 8 }).map((bytes) => toText(bytes)),
      fc.constantFrom('', '\n', ' ', UNSIDED, SIDED, 'please relay ', ' for side ', SIDE),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), (messages) => {
        const handshake = new MessageHandshake();
        const out = messages.map((one) => toText(handshake.push(toBytes(one)))).join('');
        const text = out + toText(handshake.flush());
        const sent = messages.join('');
        if (text === '') {
          assert.equal(handshake.isDone, false, 'a line that is not whole is held, and nothing else');
          assert.equal(parseHandshake(toBytes(sent)).kind, 'incomplete');
          return;
        }
        const added = [...text.matchAll(/\n/g)].map(
          ({ index }) => text.slice(0, index) + text.slice(index + 1),
        );
        assert.ok(text === sent || added.includes(sent));
      }),
      { numRuns: 1000 },
    );
  });
});
