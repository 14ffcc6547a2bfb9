import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { MessageHandshake } from '../../../src/protocol/message-handshake.ts';
import { expectSame, expectTrue, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { LINE_TOKENS, canBecomeLine, makeLine } from './handshake.ts';

/** Separates two messages: a byte that occurs in no line. */
const END = '\xff';

const COMPLETE_WITHOUT_SIDE = /^please relay \w{64}$/;
const COMPLETE_WITH_SIDE = /^please relay \w{64} for side \w{16}$/;

/** Result after some messages: the certain stream, and what is undecided. */
interface Expected {
  readonly stream: string;
  readonly undecided: string;
}

/** The rules of message-handshake.ts, applied to all messages at once. */
function expected(messages: readonly string[]): Expected {
  const [first, ...others] = messages;
  if (first === undefined) return { stream: '', undecided: '' };
  return expectedAfter(
    '',
    first,
    others.filter((message) => message !== ''),
  );
}

function expectedAfter(before: string, message: string, others: readonly string[]): Expected {
  const after = others.join('');
  if (COMPLETE_WITHOUT_SIDE.test(before) && !/^[ \n]/.test(message)) {
    return { stream: `${before}\n${message}${after}`, undecided: '' };
  }
  const line = before + message;
  if (line.includes('\n') || line.length > 1024) return { stream: line + after, undecided: '' };
  if (!canBecomeLine(line)) return { stream: `${line}\n${after}`, undecided: '' };
  const [next, ...rest] = others;
  if (COMPLETE_WITH_SIDE.test(line)) {
    return { stream: `${line}\n${next === '\n' ? rest.join('') : after}`, undecided: '' };
  }
  return next === undefined ? { stream: '', undecided: line } : expectedAfter(line, next, rest);
}

const DICTIONARY: Choices<string> = [END, `${END}\n`, `${END} `, ...LINE_TOKENS];

export const messageHandshake: Target = {
  dictionary: DICTIONARY,

  make(random) {
    const line = makeLine(random) + pick(random, ['', '', '\n', `${END}\n`, `${END}\n${END}\n`]);
    const cut = pick(random, [0, 13, 77, 78, 87, 103, line.length, random.between(0, line.length)]);
    const payload = many(random, 0, 3, () => END + pick(random, ['\n', ' ', 'x', '', '\n\n', ' for side ']));
    return line.slice(0, cut) + END + line.slice(cut) + payload;
  },

  check(input) {
    // The first message is never empty: empty messages have no effect anywhere.
    const messages = input
      .toString('latin1')
      .split(END)
      .filter((message, at) => at > 0 || message !== '');
    const reader = new MessageHandshake();
    let stream = '';
    for (const [at, message] of messages.entries()) {
      stream += Buffer.from(reader.push(Buffer.from(message, 'latin1'))).toString('latin1');
      const sent = messages.slice(0, at + 1);
      const { stream: expectedStream, undecided } = expected(sent.filter((part) => part !== ''));
      expectSame(stream, expectedStream, `the stream of ${sent.length} messages`);
      expectSame(reader.isAmbiguous, COMPLETE_WITHOUT_SIDE.test(undecided), 'whether it is undecided');
      expectTrue(undecided.length <= 103, 'it buffers more than the longest line');
      // The handshake parser after it must decide on these bytes; otherwise the connection would wait
      // forever.
      const isDecided = parseHandshake(Buffer.from(stream, 'latin1')).kind !== 'incomplete';
      expectSame(isDecided, stream !== '', 'whether the stream has a line');
      if (reader.isDone) expectTrue(isDecided, 'it is done without a line');
    }
    const { undecided } = expected(messages.filter((message) => message !== ''));
    const flushed = Buffer.from(reader.flush()).toString('latin1');
    expectSame(flushed, COMPLETE_WITHOUT_SIDE.test(undecided) ? `${undecided}\n` : '', 'the flushed bytes');
  },
};
