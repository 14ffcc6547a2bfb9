import { createHmac, createSecretKey, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { NEWLINE } from '../protocol/messages.ts';

/** The longest line of a greeting, in bytes and without its newline. One of version 1 has 153 at the most; others get some room. */
export const MAX_LINK_LINE_BYTES = 200;

/** What the bytes so far amount to. `rest` is what came behind the line, and shares memory with what was fed. */
export type LinkLine =
  | { readonly kind: 'incomplete'; readonly text: string }
  | { readonly kind: 'overlong'; readonly text: string }
  | { readonly kind: 'line'; readonly text: string; readonly rest: Uint8Array };

/** Gathers lines out of bytes in any split. Keeps no more than `MAX_LINK_LINE_BYTES`, whatever it is fed. */
export class LinkLineReader {
  #partial = '';

  /** Begins anew once it has returned a line. */
  read(bytes: Uint8Array): LinkLine {
    // With the newline of the longest line, and no further: the rest may be very much.
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
 * How two relays of one cluster greet each other on a link. The whole conversation:
 *
 *     owner, who is called                 caller
 *     transit-relay-cluster/1 NONCE ->
 *                                       <- transit-relay-cluster/1 NONCE PROOF
 *     PROOF ->
 *     bytes <----------------------------> bytes
 *
 * A nonce is 32 random bytes, made anew for each link. A proof is HMAC-SHA256 over the version, the role of who
 * makes it, and the nonces of the owner and of the caller, in this order; the key is HKDF-SHA256 of the cluster's
 * secret. All are in lower-case hex. Each end chose one nonce, so that no recorded line is good a second time, and the
 * role keeps a line from being good for the one who said it.
 *
 * Instead of its proof the owner says `wrong secret`, and closes. All else that is wrong closes a link without a word.
 *
 * Who can change bytes on the way can pass a greeting on, and read and change what follows: clients' transfers are encrypted, and
 * whatever else has to be hidden there needs TLS below. An owner that wants it opens with `transit-relay-cluster/1 tls`
 * instead; TLS comes next (`link-tls.ts`), and all of the above goes on in there.
 */
const PROTOCOL_NAME = 'transit-relay-cluster/';

/** Goes up with every change that the other end has to know of. */
const PROTOCOL_VERSION = '1';

const NONCE_BYTES = 32;
const HEX = '[0-9a-f]{64}';

const SERVER_LINE = new RegExp(`^${PROTOCOL_NAME}${PROTOCOL_VERSION} (?<nonce>${HEX})$`, 'u');
const CLIENT_LINE = new RegExp(
  `^${PROTOCOL_NAME}${PROTOCOL_VERSION} (?<nonce>${HEX}) (?<proof>${HEX})$`,
  'u',
);
const PROOF_LINE = new RegExp(`^${HEX}$`, 'u');
const OTHER_VERSION = new RegExp(
  `^${PROTOCOL_NAME}(?!${PROTOCOL_VERSION}(?: |$))[1-9][0-9]{0,8}(?: |$)`,
  'u',
);
const WRONG_SECRET = 'wrong secret';
const TLS_OPENING = `${PROTOCOL_NAME}${PROTOCOL_VERSION} tls`;

/**
 * What is wrong with the other end: it speaks another version, has another secret, is no relay, or is the only one of the two
 * that wants TLS, or that does not.
 */
export type LinkAuthFailure = 'version' | 'secret' | 'not a relay' | 'tls';

/** What has come of the bytes so far. `say` is to be sent; it may be empty. */
export type LinkAuthStep =
  | { readonly kind: 'unfinished'; readonly say: string }
  /** The other end has the secret. What came behind its last line shares memory with what was fed. */
  | { readonly kind: 'proven'; readonly say: string; readonly rest: Uint8Array }
  /** The link is to be closed. */
  | { readonly kind: 'failed'; readonly say: string; readonly fault: LinkAuthFailure };

const INCOMPLETE: LinkAuthStep = { kind: 'unfinished', say: '' };

type LinkRole = 'owner' | 'caller';

/** One end of a greeting. Fed with bytes until it is proven or has failed, and not further. */
export interface LinkAuth {
  receive(bytes: Uint8Array): LinkAuthStep;
}

/** What both ends prove that they have. The label keeps it apart from other uses of the secret. */
export function linkAuthKey(secret: string): KeyObject {
  const bytes = hkdfSync('sha256', secret, '', 'transit-relay-cluster link greeting', 32);
  return createSecretKey(Buffer.from(bytes));
}

/** The end that is called, and speaks first. */
export class LinkServerAuth implements LinkAuth {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();

  constructor(key: KeyObject) {
    this.#key = key;
  }

  /** The line that it begins with. */
  get opening(): string {
    return `${PROTOCOL_NAME}${PROTOCOL_VERSION} ${this.#nonce}\n`;
  }

  receive(bytes: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && isOpeningPrefix(line.text)) return INCOMPLETE;
    const said = line.kind === 'line' ? CLIENT_LINE.exec(line.text)?.groups : undefined;
    if (line.kind !== 'line' || said === undefined) return failed(failureOf(line.text));
    const { nonce = '', proof = '' } = said;
    if (!verifyProof(proof, proofOf(this.#key, 'caller', this.#nonce, nonce)))
      return failed('secret', `${WRONG_SECRET}\n`);
    const own = proofOf(this.#key, 'owner', this.#nonce, nonce).toString('hex');
    return { kind: 'proven', say: `${own}\n`, rest: line.rest };
  }
}

/** The end that calls. */
export class LinkClientAuth implements LinkAuth {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();
  /** What the owner has to prove itself with, once it has opened. */
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
    // It can't know yet what to say next.
    if (line.rest.length > 0) return failed('not a relay');
    this.#expected = proofOf(this.#key, 'owner', nonce, this.#nonce);
    const own = proofOf(this.#key, 'caller', nonce, this.#nonce).toString('hex');
    return { kind: 'unfinished', say: `${PROTOCOL_NAME}${PROTOCOL_VERSION} ${this.#nonce} ${own}\n` };
  }

  #receiveProof(bytes: Uint8Array, expected: Uint8Array): LinkAuthStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete') return INCOMPLETE;
    if (line.kind === 'line' && PROOF_LINE.test(line.text)) {
      const isProven = verifyProof(line.text, expected);
      return isProven ? { kind: 'proven', say: '', rest: line.rest } : failed('secret');
    }
    return failed(line.text === WRONG_SECRET ? 'secret' : 'not a relay');
  }
}

/** What a caller that wants TLS hears before. */
export class TlsOffer {
  /** What the owner says, in the clear. */
  static readonly line = `${TLS_OPENING}\n`;

  readonly #lines = new LinkLineReader();

  /** `begin`: the caller begins with TLS. Fed until it says something else than `unfinished`. */
  receive(bytes: Uint8Array): 'unfinished' | 'begin' | LinkAuthFailure {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && isOpeningPrefix(line.text)) return 'unfinished';
    if (line.kind === 'line' && SERVER_LINE.test(line.text)) return 'tls';
    if (line.kind !== 'line' || line.text !== TLS_OPENING) return failureOf(line.text);
    // In TLS it is the caller who speaks first: what comes before is not the owner's.
    return line.rest.length === 0 ? 'begin' : 'not a relay';
  }
}

function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString('hex');
}

function proofOf(key: KeyObject, role: LinkRole, ownerNonce: string, callerNonce: string): Buffer {
  // No part can hold a blank, so that no two greetings come to the same text.
  const text = `${PROTOCOL_NAME}${PROTOCOL_VERSION} ${role} ${ownerNonce} ${callerNonce}`;
  return createHmac('sha256', key).update(text).digest();
}

function verifyProof(hex: string, expected: Uint8Array): boolean {
  return timingSafeEqual(Buffer.from(hex, 'hex'), expected);
}

function failed(error: LinkAuthFailure, say = ''): LinkAuthStep {
  return { kind: 'failed', say, fault: error };
}

/** False as soon as a byte shows that this is no relay: it need not be heard out. */
function isOpeningPrefix(text: string): boolean {
  return text.length < PROTOCOL_NAME.length ? PROTOCOL_NAME.startsWith(text) : text.startsWith(PROTOCOL_NAME);
}

function failureOf(text: string): LinkAuthFailure {
  return OTHER_VERSION.test(text) ? 'version' : 'not a relay';
}
