import {
  createHmac,
  createSecretKey,
  hkdfSync,
  constants as openssl,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect, createSecureContext } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { errorCode } from '../process/errors.ts';
import { NEWLINE } from '../protocol/messages.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ByteStream } from '../transport/byte-stream.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { startNodeTls } from '../transport/uv-handle.ts';

/** Limit for a line of the handshake without its newline, in bytes. The longest of this version has 153; other versions get some room. */
export const MAX_LINK_LINE_BYTES = 200;

/** The line, if it is complete. `rest` is what came behind it, and shares memory with the bytes that were read. */
type LinkLine =
  | { readonly kind: 'incomplete'; readonly text: string }
  | { readonly kind: 'overlong'; readonly text: string }
  | { readonly kind: 'line'; readonly text: string; readonly rest: Uint8Array };

/** Reads lines from bytes in any split. Keeps at most `MAX_LINK_LINE_BYTES`. */
export class LinkLineReader {
  #partial = '';

  /** Starts with the next line once it has returned one. */
  read(bytes: Uint8Array): LinkLine {
    // With the newline of the longest line, and no further: the rest may be large.
    const piece = bytes.subarray(0, MAX_LINK_LINE_BYTES + 1 - this.#partial.length);
    const end = piece.indexOf(NEWLINE);
    const text = this.#partial + latin1(end < 0 ? piece : piece.subarray(0, end));
    if (end >= 0) {
      this.#partial = '';
      return { kind: 'line', text, rest: bytes.subarray(end + 1) };
    }
    if (text.length > MAX_LINK_LINE_BYTES) return { kind: 'overlong', text };
    this.#partial = text;
    return { kind: 'incomplete', text };
  }
}

/** One character a byte, so that lengths are the same and no byte is an error. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/**
 * How two relays of one cluster authenticate each other on a link. Without TLS:
 *
 *     owner (server)                       caller (client)
 *     transit-relay-cluster/2 NONCE ->
 *                                       <- transit-relay-cluster/2 NONCE PROOF
 *     PROOF ->
 *     bytes <----------------------------> bytes
 *
 * A nonce is 32 random bytes, new for each link. A proof is HMAC-SHA256 over the version, the role of its sender, and the
 * nonces of the owner and of the caller, in this order; the key is HKDF-SHA256 of the cluster's secret. All are in
 * lower-case hex. Each end chooses one nonce, so recorded lines cannot be replayed. The role is included so that a proof
 * cannot be reflected to its sender.
 *
 * If the caller's proof is wrong, the owner sends `wrong secret` and closes. Every other failure closes the link without a
 * reply.
 *
 * An attacker who can change packets can pass this handshake on, and read and change what follows. Clients' transfers are
 * end-to-end encrypted; to hide the rest, use TLS on links. The owner then sends
 *
 *     transit-relay-cluster/2 tls
 *
 * and TLS follows, with a pre-shared key made of the same secret (`LinkTls`). It authenticates both ends and the
 * version, so there is no further handshake. An end that wants TLS never accepts a link without it, and the other way round.
 */
const PROTOCOL_NAME = 'transit-relay-cluster/';

/** Must be increased with every change that the other end has to know of. In version 1 the HMAC handshake followed TLS. */
const PROTOCOL_VERSION = '2';

/** Both ends have to name it, as the identity of the pre-shared key. TLS authenticates it, unlike the line before. */
const LINK_PROTOCOL = `${PROTOCOL_NAME}${PROTOCOL_VERSION}`;

const NONCE_BYTES = 32;
const HEX = '[0-9a-f]{64}';

const SERVER_LINE = new RegExp(`^${LINK_PROTOCOL} (?<nonce>${HEX})$`, 'u');
const CLIENT_LINE = new RegExp(`^${LINK_PROTOCOL} (?<nonce>${HEX}) (?<proof>${HEX})$`, 'u');
const PROOF_LINE = new RegExp(`^${HEX}$`, 'u');
const OTHER_VERSION = new RegExp(
  `^${PROTOCOL_NAME}(?!${PROTOCOL_VERSION}(?: |$))[1-9][0-9]{0,8}(?: |$)`,
  'u',
);
const WRONG_SECRET = 'wrong secret';
const TLS_OPENING = `${LINK_PROTOCOL} tls`;

/**
 * What is wrong with the other end: it uses another version, it has another secret, it is not a relay, or only one of the two
 * uses TLS.
 */
export type LinkAuthFailure = 'version' | 'secret' | 'not a relay' | 'tls';

/** The result of the bytes so far. `send` goes to the other end; it may be empty. */
export type LinkAuthStep =
  | { readonly kind: 'incomplete'; readonly send: string }
  /** The caller must start TLS, which authenticates both ends. */
  | { readonly kind: 'begin-tls'; readonly send: string }
  /** The other end has the secret. `rest` came behind its last line, and shares memory with the bytes that were received. */
  | { readonly kind: 'authenticated'; readonly send: string; readonly rest: Uint8Array }
  /** The link must be closed. */
  | { readonly kind: 'failed'; readonly send: string; readonly failure: LinkAuthFailure };

const INCOMPLETE: LinkAuthStep = { kind: 'incomplete', send: '' };

type LinkRole = 'owner' | 'caller';

/** One end of the handshake. It receives bytes until the result is not `incomplete`. */
export interface LinkAuth {
  receive(bytes: Uint8Array): LinkAuthStep;
}

/** The key of the proofs. The label keeps it apart from other keys that are derived from the secret. */
export function linkAuthKey(secret: string): KeyObject {
  const bytes = hkdfSync('sha256', secret, '', 'transit-relay-cluster link greeting', 32);
  return createSecretKey(Buffer.from(bytes));
}

/** The owner's end, which sends first. */
export class LinkServerAuth implements LinkAuth {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();

  constructor(key: KeyObject) {
    this.#key = key;
  }

  /** The first line of the handshake. */
  get opening(): string {
    return `${LINK_PROTOCOL} ${this.#nonce}\n`;
  }

  receive(bytes: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && isOpeningPrefix(line.text)) return INCOMPLETE;
    const fields = line.kind === 'line' ? CLIENT_LINE.exec(line.text)?.groups : undefined;
    if (line.kind !== 'line' || fields === undefined) return failed(failureOf(line.text));
    const { nonce = '', proof = '' } = fields;
    if (!verifyProof(proof, proofOf(this.#key, 'caller', this.#nonce, nonce)))
      return failed('secret', `${WRONG_SECRET}\n`);
    const own = proofOf(this.#key, 'owner', this.#nonce, nonce).toString('hex');
    return { kind: 'authenticated', send: `${own}\n`, rest: line.rest };
  }
}

/** The caller's end. */
export class LinkClientAuth implements LinkAuth {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();
  /** The proof that the owner has to send. Null until its first line has come. */
  #expected: Uint8Array | null = null;

  constructor(key: KeyObject) {
    this.#key = key;
  }

  receive(bytes: Uint8Array): LinkAuthStep {
    return this.#expected === null ? this.#receiveOpening(bytes) : this.#receiveProof(bytes, this.#expected);
  }

  #receiveOpening(bytes: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && isOpeningPrefix(line.text)) return INCOMPLETE;
    const nonce = line.kind === 'line' ? SERVER_LINE.exec(line.text)?.groups?.['nonce'] : undefined;
    if (line.kind !== 'line' || nonce === undefined)
      return failed(line.text === TLS_OPENING ? 'tls' : failureOf(line.text));
    // The owner's next line depends on the caller's.
    if (line.rest.length > 0) return failed('not a relay');
    this.#expected = proofOf(this.#key, 'owner', nonce, this.#nonce);
    const own = proofOf(this.#key, 'caller', nonce, this.#nonce).toString('hex');
    return { kind: 'incomplete', send: `${LINK_PROTOCOL} ${this.#nonce} ${own}\n` };
  }

  #receiveProof(bytes: Uint8Array, expected: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete') return INCOMPLETE;
    if (line.kind === 'line' && PROOF_LINE.test(line.text)) {
      const isValid = verifyProof(line.text, expected);
      return isValid ? { kind: 'authenticated', send: '', rest: line.rest } : failed('secret');
    }
    return failed(line.text === WRONG_SECRET ? 'secret' : 'not a relay');
  }
}

/** The line before TLS, and its check by the caller. */
export class TlsOffer implements LinkAuth {
  /** The owner sends it unencrypted. */
  static readonly line = `${TLS_OPENING}\n`;

  readonly #lines = new LinkLineReader();

  receive(bytes: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && isOpeningPrefix(line.text)) return INCOMPLETE;
    if (line.kind === 'line' && SERVER_LINE.test(line.text)) return failed('tls');
    if (line.kind !== 'line' || line.text !== TLS_OPENING) return failed(failureOf(line.text));
    // In TLS the caller sends first: bytes before that are not the owner's.
    return line.rest.length === 0 ? { kind: 'begin-tls', send: '' } : failed('not a relay');
  }
}

function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString('hex');
}

function proofOf(key: KeyObject, role: LinkRole, ownerNonce: string, callerNonce: string): Buffer {
  // No part can contain a space, so that different handshakes never give the same text.
  const text = `${LINK_PROTOCOL} ${role} ${ownerNonce} ${callerNonce}`;
  return createHmac('sha256', key).update(text).digest();
}

function verifyProof(hex: string, expected: Uint8Array): boolean {
  return timingSafeEqual(Buffer.from(hex, 'hex'), expected);
}

function failed(failure: LinkAuthFailure, send = ''): LinkAuthStep {
  return { kind: 'failed', send, failure };
}

/** False as soon as a byte shows that the other end is not a relay: the rest of its line need not be read. */
function isOpeningPrefix(text: string): boolean {
  return text.length < PROTOCOL_NAME.length ? PROTOCOL_NAME.startsWith(text) : text.startsWith(PROTOCOL_NAME);
}

function failureOf(text: string): LinkAuthFailure {
  return OTHER_VERSION.test(text) ? 'version' : 'not a relay';
}

/** The only cipher suite for a pre-shared key without a hash: such a key implies SHA-256 (RFC 8446, 4.2.11). */
const CIPHER_SUITE = 'TLS_AES_128_GCM_SHA256';

/** OpenSSL's error codes, at either end, if the other one has another key. */
const KEY_MISMATCH_CODES: ReadonlySet<string> = new Set([
  'ERR_SSL_BINDER_DOES_NOT_VERIFY',
  'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR',
]);

/** Like `ECONNRESET`. All other codes are of TLS: OpenSSL's begin with `ERR_SSL_`, and those of certificates are words. */
const SYSTEM_ERROR = /^E[A-Z0-9]+$/u;

/** The other end has proven that it has the secret, or has failed to. One of the two is called at most. */
interface LinkTlsObserver {
  onAuthenticated(): void;
  /** Called before the stream closes. Not called if the network fails. */
  onFailed(failure: LinkAuthFailure): void;
}

/**
 * TLS 1.3 on links, with a pre-shared key made of the cluster's secret. There are no certificates that could expire, and
 * only relays with the secret can be either end. Each link also has its own keys (`psk_dhe_ke`), so that a leaked secret
 * does not decrypt recorded traffic.
 */
export class LinkTls {
  readonly #key: Buffer;
  // No certificate authority is trusted: certificates prove nothing here.
  readonly #context = createSecureContext({
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHER_SUITE,
    // Links are never resumed, and the ticket key would live as long as the process.
    secureOptions: openssl.SSL_OP_NO_TICKET,
    ca: [],
  });

  /** @param secret the same for all relays of the cluster */
  constructor(secret: string) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'transit-relay-cluster link TLS', 32));
  }

  /**
   * Adds one end of TLS to a stream, which must not be used any more.
   *
   * @param role `server`: the owner's end; `client`: the caller's, which sends first
   */
  wrap(
    role: 'server' | 'client',
    backend: IoBackend,
    stream: ByteStream,
    observer: LinkTlsObserver,
  ): ByteStream {
    const link = backend.startSharedTls(stream, {
      role,
      context: this.#context,
      preSharedKey: { identity: LINK_PROTOCOL, key: this.#key },
      firstBytes: EMPTY_BYTES,
      observer: {
        onReady: () => observer.onAuthenticated(),
        onFailed: (code) => reportFailure(code, observer),
      },
    });
    if (link !== null) return link;
    return backend.startTlsWith(stream, (socket) => {
      const secured = role === 'server' ? this.#startServer(socket) : this.#startClient(socket);
      secured.once(role === 'server' ? 'secure' : 'secureConnect', () => {
        // A handshake with a certificate proves nothing. Node.js accepts one if NODE_TLS_REJECT_UNAUTHORIZED is 0.
        if (secured.isSessionReused()) observer.onAuthenticated();
        else observer.onFailed('not a relay');
      });
      secured.on('error', (error) => reportFailure(errorCode(error), observer));
      return secured;
    });
  }

  #startServer(socket: Socket): TLSSocket {
    return startNodeTls(socket, {
      secureContext: this.#context,
      pskCallback: (_, identity) => (identity === LINK_PROTOCOL ? this.#key : null),
    });
  }

  #startClient(socket: Socket): TLSSocket {
    return connect({
      socket,
      secureContext: this.#context,
      pskCallback: () => ({ psk: this.#key, identity: LINK_PROTOCOL }),
      // Called only if the other end has sent a certificate instead.
      checkServerIdentity: () => new Error('a relay has no certificate'),
    });
  }
}

function reportFailure(code: string, observer: LinkTlsObserver): void {
  if (KEY_MISMATCH_CODES.has(code)) observer.onFailed('secret');
  else if (!SYSTEM_ERROR.test(code)) observer.onFailed('not a relay');
}
