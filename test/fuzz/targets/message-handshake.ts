import { parseHandshake } from '../../../src/protocol/handshake.ts';
import { MessageHandshake } from '../../../src/protocol/message-handshake.ts';
import { expectSame, expectTrue, many, pick } from '../target.ts';
import type { Choices, Target } from '../target.ts';
import { LINE_TOKENS, canBecomeLine, makeLine } from './handshake.ts';

/** Separates two messages: a byte that occurs in no line. */
const END = '\xff';

const WHOLE_UNSIDED = /^please relay \w{64}$/;
const WHOLE_SIDED = /^please relay \w{64} for side \w{16}$/;

/** Result after some messages: the certain stream, and what is undecided. */
interface Expected {
  readonly stream: string;
  readonly held: string;
}

/** The rules of message-handshake.ts, applied to all messages at once. */
function expected(messages: readonly string[]): Expected {
  const [first, ...others] = messages;
  if (first === undefined) return { stream: '', held: '' };
  return expectedBehind(
    '',
    first,
    others.filter((message) => message !== ''),
  );
}

function expectedBehind(before: string, message: string, others: readonly string[]): Expected {
  const after = others.join('');
  if (WHOLE_UNSIDED.test(before) && !/^[ \n]/.test(message)) {
    return { stream: `${before}\n${message}${after}`, held: '' };
  }
  const line = before + message;
  if (line.includes('\n') || line.length > 1024) return { stream: line + after, held: '' };
  if (!canBecomeLine(line)) return { stream: `${line}\n${after}`, held: '' };
  const [next, ...rest] = others;
  if (WHOLE_SIDED.test(line)) {
    return { stream: `${line}\n${next === '\n' ? rest.join('') : after}`, held: '' };
  }
  return next === undefined ? { stream: '', held: line } : expectedBehind(line, next, rest);
}

const DICTIONARY: Choices<string> = [END, `${END}\n`, `${END} `, ...LINE_TOKENS];

export const messageHandshake: Target = {
  dictionary: DICTIONARY,

  make(dice) {
    const line = makeLine(dice) + pick(dice, ['', '', '\n', `${END}\n`, `${END}\n${END}\n`]);
    const cut = pick(dice, [0, 13, 77, 78, 87, 103, line.length, dice.between(0, line.length)]);
    const payload = many(dice, 0, 3, () => END + pick(dice, ['\n', ' ', 'x', '', '\n\n', ' for side ']));
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
      const { stream: expectedStream, held } = expected(sent.filter((one) => one !== ''));
      expectSame(stream, expectedStream, `the stream of ${sent.length} messages`);
      expectSame(reader.isAmbiguous, WHOLE_UNSIDED.test(held), 'whether it is undecided');
      expectTrue(held.length <= 103, 'it buffers more than the longest line');
      // The handshake parser after it must decide on these bytes; otherwise the connection would wait
      // forever.
      const judged = parseHandshake(Buffer.from(stream, 'latin1')).kind !== 'incomplete';
      expectSame(judged, stream !== '', 'whether the stream has a line');
      if (reader.isDone) expectTrue(judged, 'it is done without a line');
    }
    const { held } = expected(messages.filter((one) => one !== ''));
    const settled = Buffer.from(reader.flush()).toString('latin1');
    expectSame(settled, WHOLE_UNSIDED.test(held) ? `${held}\n` : '', 'what settles');
  },
};
