/** What a TLS client asks for in its first message. */
export interface ClientHello {
  /** The name that it wants a certificate for (RFC 6066, section 3), in lower case; null: any. */
  readonly serverName: string | null;
  /** The application protocols that it offers (RFC 7301). */
  readonly protocols: readonly string[];
}

/** A client with hybrid post-quantum keys sends 1.8 kB. */
const MAX_RECORD_BYTES = 4096;

/** RFC 8446, sections 4 and 5.1, and the two extensions. */
const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_RECORD = 0x16;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
const HOST_NAME = 0;
const PROTOCOLS = 16;

/** Version, random. */
const FIXED_BYTES = 2 + 32;

/**
 * Parses the first message of a TLS client.
 *
 * @returns `incomplete`: more bytes are needed; `other`: not a ClientHello in one record of usual size
 */
export function parseClientHello(bytes: Uint8Array): ClientHello | 'incomplete' | 'other' {
  if ((bytes[0] ?? HANDSHAKE_RECORD) !== HANDSHAKE_RECORD) return 'other';
  if (bytes.length < RECORD_HEADER_BYTES) return 'incomplete';
  const length = ((bytes[3] ?? 0) << 8) | (bytes[4] ?? 0);
  if (length > MAX_RECORD_BYTES) return 'other';
  if (bytes.length < RECORD_HEADER_BYTES + length) return 'incomplete';
  const record = new Reader(bytes.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length));
  try {
    return parseMessage(record);
  } catch (error) {
    if (error instanceof RangeError) return 'other';
    throw error;
  }
}

function parseMessage(record: Reader): ClientHello | 'other' {
  if (record.number(1) !== CLIENT_HELLO) return 'other';
  const message = new Reader(record.vector(3));
  message.take(FIXED_BYTES);
  // Session, cipher suites, compression methods.
  message.vector(1);
  message.vector(2);
  message.vector(1);
  let serverName: string | null = null;
  let protocols: string[] = [];
  // Without extensions, nothing follows.
  const extensions = new Reader(message.isEmpty ? message.take(0) : message.vector(2));
  while (!extensions.isEmpty) {
    const type = extensions.number(2);
    const content = new Reader(extensions.vector(2));
    if (type === SERVER_NAME) serverName = readServerName(content);
    else if (type === PROTOCOLS) protocols = readProtocols(content);
  }
  return { serverName, protocols };
}

function readServerName(extension: Reader): string | null {
  const names = new Reader(extension.vector(2));
  while (!names.isEmpty) {
    const type = names.number(1);
    const name = names.vector(2);
    if (type === HOST_NAME) return toText(name).toLowerCase();
  }
  return null;
}

function readProtocols(extension: Reader): string[] {
  const list = new Reader(extension.vector(2));
  const protocols: string[] = [];
  while (!list.isEmpty) protocols.push(toText(list.vector(1)));
  return protocols;
}

function toText(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** Reads numbers and vectors of TLS. Throws a RangeError at the end. */
class Reader {
  #rest: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#rest = bytes;
  }

  get isEmpty(): boolean {
    return this.#rest.length === 0;
  }

  take(count: number): Uint8Array {
    if (count > this.#rest.length) throw new RangeError('the message is too short');
    const taken = this.#rest.subarray(0, count);
    this.#rest = this.#rest.subarray(count);
    return taken;
  }

  /** @param size in bytes, up to 3 */
  number(size: number): number {
    return this.take(size).reduce((number, byte) => (number << 8) | byte, 0);
  }

  /** Bytes after their length, which has `size` bytes. */
  vector(size: number): Uint8Array {
    return this.take(this.number(size));
  }
}
