import assert from 'node:assert/strict';

/** A frame that a client sends. */
export interface ClientFrame {
  readonly opcode: number;
  readonly payload?: Uint8Array | string;
  /** Default: true. */
  readonly isFinal?: boolean;
  /** The three reserved bits, 0 to 7. */
  readonly reserved?: number;
  /** Null: not masked. */
  readonly key?: Uint8Array | null;
  /** Bytes of the length field. Default: the shortest possible. */
  readonly lengthBytes?: 1 | 2 | 8;
  /** Value of the length field if it differs from the payload length. */
  readonly announced?: bigint;
}

const SOME_KEY = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);

/** Source: RFC 6455, section 5.2. */
export function encodeFrame(frame: ClientFrame): Buffer {
  const { opcode, isFinal = true, reserved = 0, key = SOME_KEY } = frame;
  const payload = Buffer.from(frame.payload ?? '');
  const announced = frame.announced ?? BigInt(payload.length);
  const lengthBytes = frame.lengthBytes ?? (announced < 126n ? 1 : announced < 65_536n ? 2 : 8);
  const length = Buffer.alloc(lengthBytes === 1 ? 1 : 1 + lengthBytes);
  if (lengthBytes === 1) length.writeUInt8(Number(announced));
  else if (lengthBytes === 2) length.writeUInt16BE(Number(announced), 1);
  else length.writeBigUInt64BE(announced, 1);
  if (lengthBytes > 1) length[0] = lengthBytes === 2 ? 126 : 127;
  if (key !== null) length[0] = (length[0] ?? 0) | 0x80;
  const first = Buffer.of((isFinal ? 0x80 : 0) | (reserved << 4) | opcode);
  if (key === null) return Buffer.concat([first, length, payload]);
  const masked = payload.map((byte, index) => byte ^ (key[index % 4] ?? 0));
  return Buffer.concat([first, length, key, masked]);
}

export interface ServerFrame {
  readonly opcode: number;
  readonly payload: Buffer;
}

/** Parses frames of a server. Throws if a byte violates RFC 6455. */
export function readServerFrames(bytes: Buffer): ServerFrame[] {
  const frames: ServerFrame[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes.readUInt8(at);
    assert.equal(first & 0x80, 0x80, 'the frame is a fragment');
    assert.equal(first & 0x70, 0, 'a reserved bit is set');
    let length = bytes.readUInt8(at + 1);
    assert.ok(length < 128, 'a server must not mask');
    at += 2;
    if (length === 126) {
      length = bytes.readUInt16BE(at);
      at += 2;
      assert.ok(length > 125, 'the length is not in its shortest form');
    } else if (length === 127) {
      length = Number(bytes.readBigUInt64BE(at));
      at += 8;
      assert.ok(length > 65_535, 'the length is not in its shortest form');
    }
    assert.ok((first & 0x08) === 0 || length < 126, 'the control frame is too long');
    assert.ok(at + length <= bytes.length, 'the frame is truncated');
    frames.push({ opcode: first & 0x0f, payload: bytes.subarray(at, at + length) });
    at += length;
  }
  return frames;
}

/** Lines of a WebSocket upgrade request. The key is that of RFC 6455, section 1.3. */
export const UPGRADE_LINES = [
  'GET / HTTP/1.1',
  'Host: relay',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
] as const;

/** The request as a client sends it. */
export const UPGRADE = `${UPGRADE_LINES.join('\r\n')}\r\n\r\n`;
