import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ErrorReply, ReplyReader, RespError, encodeCommand } from '../../../src/cluster/resp.ts';
import type { Reply } from '../../../src/cluster/resp.ts';
import { Dice } from '../../support/dice.ts';

/** The maximum lengths of a line, a string and an array. */
const LINE = 4096;
const STRING = 65_536;
const ELEMENTS = 4096;

function readAll(buffers: Iterable<Buffer>): Reply[] {
  const reader = new ReplyReader();
  const replies: Reply[] = [];
  for (const piece of buffers) for (const reply of reader.read(piece)) replies.push(reply);
  return replies;
}

function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`;
}

/** All kinds of replies that Redis sends to a relay, in one stream. */
const STREAM = [
  '+OK\r\n',
  '$-1\r\n',
  bulk('1 some-id-0 10.0.0.7:4005'),
  bulk(''),
  ':0\r\n',
  ':-12\r\n',
  '*-1\r\n',
  '*0\r\n',
  `*5\r\n${bulk('OOM command not allowed')}:3\r\n${bulk('')}:7\r\n$-1\r\n`,
  '*1\r\n-ERR inside\r\n',
  '-WRONGPASS invalid username-password pair\r\n',
  bulk('a\r\nb'),
].join('');

const REPLIES: readonly Reply[] = [
  'OK',
  null,
  '1 some-id-0 10.0.0.7:4005',
  '',
  0,
  -12,
  null,
  [],
  ['OOM command not allowed', 3, '', 7, null],
  [new ErrorReply('ERR inside')],
  new ErrorReply('WRONGPASS invalid username-password pair'),
  'a\r\nb',
];

describe('replies of a coordinator', () => {
  test('are parsed the same in one piece, byte by byte and in any split', () => {
    const bytes = Buffer.from(STREAM);
    assert.deepEqual(readAll([bytes]), REPLIES);
    assert.deepEqual(readAll(Array.from(bytes, (byte) => Buffer.of(byte))), REPLIES);
    const random = new Dice(1);
    for (let round = 0; round < 300; round += 1) {
      const buffers: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const length = random.between(1, 40);
        buffers.push(bytes.subarray(at, at + length));
        at += length;
      }
      assert.deepEqual(readAll(buffers), REPLIES);
    }
  });

  test('are accepted up to the maximum lengths', () => {
    const elements = Array.from({ length: ELEMENTS }, () => 'x'.repeat(200));
    const replies: readonly Reply[] = ['a'.repeat(LINE - 1), 'b'.repeat(STRING), elements];
    const stream = [
      `+${'a'.repeat(LINE - 1)}\r\n`,
      bulk('b'.repeat(STRING)),
      `*${ELEMENTS}\r\n${elements.map(bulk).join('')}`,
    ].join('');
    for (let round = 0; round < 3; round += 1) assert.deepEqual(readAll([Buffer.from(stream)]), replies);
  });

  const large: readonly (readonly [name: string, text: string])[] = [
    ['a line', `+${'a'.repeat(LINE + 2)}`],
    ['an error', `-${'a'.repeat(LINE)}\r\n`],
    ['a number', `:${'1'.repeat(LINE + 2)}`],
    ['the length of a string', `$${STRING + 1}\r\n`],
    ['the length of an array', `*${ELEMENTS + 1}\r\n`],
    ['all strings of an array together', `*17\r\n${bulk('x'.repeat(STRING)).repeat(16)}`],
  ];
  for (const [name, text] of large) {
    test(`are rejected if too long: ${name}`, () => {
      assert.throws(() => readAll([Buffer.from(text)]), { code: 'EMSGSIZE' });
      assert.throws(() => readAll(splitOf(text)), { code: 'EMSGSIZE' });
    });
  }

  const malformed: readonly string[] = [
    'HTTP/1.1 400 Bad Request\r\n',
    '\r\n',
    '+OK\n',
    '>2\r\n',
    '%1\r\n',
    '_\r\n',
    '*1\r\n*1\r\n',
    ':\r\n',
    ':1.5\r\n',
    ':0x10\r\n',
    ':1234567890123456\r\n',
    '$\r\n',
    '$-2\r\n',
    '$1e3\r\n',
    '*-2\r\n',
    '*x\r\n',
    '$1\r\nab\r\n',
    '$1\r\na\r\r',
  ];
  for (const text of malformed) {
    test(`are rejected if malformed: ${JSON.stringify(text)}`, () => {
      assert.throws(() => readAll([Buffer.from(text)]), { code: 'EPROTO' });
      assert.throws(() => readAll(splitOf(text)), RespError);
    });
  }

  test('that come a byte at a time take little CPU time', () => {
    const before = process.cpuUsage();
    readAll(splitOf(`+${'a'.repeat(LINE - 1)}\r\n`.repeat(64)));
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 2_000_000, `${user + system} µs`);
  });
});

describe('an error reply of a coordinator', () => {
  test('has its first word as its code', () => {
    for (const [message, code] of [
      ['WRONGPASS invalid username-password pair', 'WRONGPASS'],
      ['NOAUTH Authentication required.', 'NOAUTH'],
      ['ERR unknown', 'ERR'],
      ['something else', 'ERR'],
      ['', 'ERR'],
      ['A'.repeat(30), 'ERR'],
    ] as const)
      assert.equal(new ErrorReply(message).code, code);
  });
});

test('a command is an array of strings, with lengths in bytes', () => {
  assert.equal(encodeCommand(['SET', 'kéy', '']), '*3\r\n$3\r\nSET\r\n$4\r\nkéy\r\n$0\r\n\r\n');
});

function* splitOf(text: string): Generator<Buffer> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += 1) yield bytes.subarray(at, at + 1);
}
