/** The decoded result of a client's frames. Texts have one character per byte. */
export interface Events {
  /** The last one may be incomplete. */
  readonly messages: string[];
  readonly pings: string[];
  pongs: number;
  end: string | null;
  /** Frames with a complete and valid header. */
}

/**
 * Decodes everything that a client sent at once, slowly and simply (RFC 6455, section 5): the result that the
 * decoder must have for any split. Payload counts as it arrives; a control frame when it is complete.
 */
export function expectedEvents(input: Buffer): Events {
  const events: Events = { messages: [''], pings: [], pongs: 0, end: null };
  let isInMessage = false;
  for (let at = 0; at + 2 <= input.length && events.end === null;) {
    const header = readHeader(input, at, isInMessage);
    if (header === null) break;
    if (typeof header === 'string') {
      events.end = header;
      break;
    }
    const { opcode, isFinal, start, length, key } = header;
    const masked = input.subarray(start, start + Math.min(length, input.length));
    const payload = Array.from(masked, (byte, index) =>
      String.fromCharCode(byte ^ key.readUInt8(index % 4)),
    ).join('');
    at = start + masked.length;
    if (opcode < 8) {
      events.messages.push((events.messages.pop() ?? '') + payload);
      if (masked.length < length) break;
      isInMessage = !isFinal;
      if (isFinal) events.messages.push('');
    } else if (masked.length < length) break;
    else if (opcode === 9) events.pings.push(payload);
    else if (opcode === 10) events.pongs += 1;
    else events.end = endOf(payload);
  }
  return events;
}

interface Header {
  readonly opcode: number;
  readonly isFinal: boolean;
  /** Start and length of the payload. */
  readonly start: number;
  readonly length: number;
  readonly key: Buffer;
}

/** Null if it is incomplete; otherwise how the connection ends if the header is invalid. */
function readHeader(input: Buffer, at: number, isInMessage: boolean): Header | string | null {
  const [first, second] = [input.readUInt8(at), input.readUInt8(at + 1)];
  const opcode = first & 15;
  const isFinal = first >= 128;
  const isValid =
    (first & 0x70) === 0 &&
    second >= 128 &&
    (isInMessage ? [0, 8, 9, 10] : [1, 2, 8, 9, 10]).includes(opcode) &&
    (opcode < 8 || (isFinal && second - 128 <= 125));
  if (!isValid) return 'fault 1002';
  if (opcode === 1) return 'text';
  const lengthBytes = second === 255 ? 8 : second === 254 ? 2 : 0;
  const start = at + 2 + lengthBytes + 4;
  if (start > input.length) return null;
  const hex = input.subarray(at + 2, at + 2 + lengthBytes).toString('hex');
  const length = hex === '' ? BigInt(second - 128) : BigInt(`0x${hex}`);
  if (length >= 2n ** 63n) return 'fault 1002';
  if (length >= 2n ** 53n) return 'fault 1009';
  return { opcode, isFinal, start, length: Number(length), key: input.subarray(start - 4, start) };
}

/** Sections 5.5.1 and 7.4. */
function endOf(payload: string): string {
  if (payload === '') return 'close 1005';
  if (payload.length === 1) return 'fault 1002';
  const code = payload.charCodeAt(0) * 256 + payload.charCodeAt(1);
  const isKnown = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014].includes(code);
  if (!isKnown && !(code >= 3000 && code < 5000)) return 'fault 1002';
  const reason = Buffer.from(payload.slice(2), 'latin1');
  return Buffer.from(reason.toString('utf8')).equals(reason) ? `close ${code}` : 'fault 1007';
}
