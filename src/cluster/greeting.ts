import { createHmac, createSecretKey, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { LinkLineReader } from './link-line.ts';

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
const NAME = 'transit-relay-cluster/';

/** Goes up with every change that the other end has to know of. */
const VERSION = '1';

const NONCE_BYTES = 32;
const HEX = '[0-9a-f]{64}';

const OWNER_LINE = new RegExp(`^${NAME}${VERSION} (?<nonce>${HEX})$`, 'u');
const CALLER_LINE = new RegExp(`^${NAME}${VERSION} (?<nonce>${HEX}) (?<proof>${HEX})$`, 'u');
const PROOF_LINE = new RegExp(`^${HEX}$`, 'u');
const OTHER_VERSION = new RegExp(`^${NAME}(?!${VERSION}(?: |$))[1-9][0-9]{0,8}(?: |$)`, 'u');
const REFUSAL = 'wrong secret';
const TLS_OPENING = `${NAME}${VERSION} tls`;

/**
 * What is wrong with the other end: it speaks another version, has another secret, is no relay, or is the only one of the two
 * that wants TLS, or that does not.
 */
export type GreetingFault = 'version' | 'secret' | 'not a relay' | 'tls';

/** What has come of the bytes so far. `say` is to be sent; it may be empty. */
export type GreetingStep =
  | { readonly kind: 'unfinished'; readonly say: string }
  /** The other end has the secret. What came behind its last line shares memory with what was fed. */
  | { readonly kind: 'proven'; readonly say: string; readonly rest: Uint8Array }
  /** The link is to be closed. */
  | { readonly kind: 'failed'; readonly say: string; readonly fault: GreetingFault };

const UNFINISHED: GreetingStep = { kind: 'unfinished', say: '' };

type Role = 'owner' | 'caller';

/** One end of a greeting. Fed with bytes until it is proven or has failed, and not further. */
export interface Greeting {
  take(bytes: Uint8Array): GreetingStep;
}

/** What both ends prove that they have. The label keeps it apart from other uses of the secret. */
export function greetingKey(secret: string): KeyObject {
  const bytes = hkdfSync('sha256', secret, '', 'transit-relay-cluster link greeting', 32);
  return createSecretKey(Buffer.from(bytes));
}

/** The end that is called, and speaks first. */
export class OwnerGreeting implements Greeting {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();

  constructor(key: KeyObject) {
    this.#key = key;
  }

  /** The line that it begins with. */
  get opening(): string {
    return `${NAME}${VERSION} ${this.#nonce}\n`;
  }

  take(bytes: Uint8Array): GreetingStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && mayBecomeOpening(line.text)) return UNFINISHED;
    const said = line.kind === 'line' ? CALLER_LINE.exec(line.text)?.groups : undefined;
    if (line.kind !== 'line' || said === undefined) return failed(faultOf(line.text));
    const { nonce = '', proof = '' } = said;
    if (!isProof(proof, proofOf(this.#key, 'caller', this.#nonce, nonce)))
      return failed('secret', `${REFUSAL}\n`);
    const own = proofOf(this.#key, 'owner', this.#nonce, nonce).toString('hex');
    return { kind: 'proven', say: `${own}\n`, rest: line.rest };
  }
}

/** The end that calls. */
export class CallerGreeting implements Greeting {
  readonly #key: KeyObject;
  readonly #nonce = newNonce();
  readonly #lines = new LinkLineReader();
  /** What the owner has to prove itself with, once it has opened. */
  #expected: Uint8Array | null = null;

  constructor(key: KeyObject) {
    this.#key = key;
  }

  take(bytes: Uint8Array): GreetingStep {
    return this.#expected === null ? this.#takeOpening(bytes) : this.#takeProof(bytes, this.#expected);
  }

  #takeOpening(bytes: Uint8Array): GreetingStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && mayBecomeOpening(line.text)) return UNFINISHED;
    const nonce = line.kind === 'line' ? OWNER_LINE.exec(line.text)?.groups?.['nonce'] : undefined;
    if (line.kind !== 'line' || nonce === undefined)
      return failed(line.text === TLS_OPENING ? 'tls' : faultOf(line.text));
    // It can't know yet what to say next.
    if (line.rest.length > 0) return failed('not a relay');
    this.#expected = proofOf(this.#key, 'owner', nonce, this.#nonce);
    const own = proofOf(this.#key, 'caller', nonce, this.#nonce).toString('hex');
    return { kind: 'unfinished', say: `${NAME}${VERSION} ${this.#nonce} ${own}\n` };
  }

  #takeProof(bytes: Uint8Array, expected: Uint8Array): GreetingStep {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete') return UNFINISHED;
    if (line.kind === 'line' && PROOF_LINE.test(line.text)) {
      const isProven = isProof(line.text, expected);
      return isProven ? { kind: 'proven', say: '', rest: line.rest } : failed('secret');
    }
    return failed(line.text === REFUSAL ? 'secret' : 'not a relay');
  }
}

/** What a caller that wants TLS hears before. */
export class TlsInvitation {
  /** What the owner says, in the clear. */
  static readonly line = `${TLS_OPENING}\n`;

  readonly #lines = new LinkLineReader();

  /** `begin`: the caller begins with TLS. Fed until it says something else than `unfinished`. */
  take(bytes: Uint8Array): 'unfinished' | 'begin' | GreetingFault {
    const line = this.#lines.read(bytes);
    if (line.kind === 'incomplete' && mayBecomeOpening(line.text)) return 'unfinished';
    if (line.kind === 'line' && OWNER_LINE.test(line.text)) return 'tls';
    if (line.kind !== 'line' || line.text !== TLS_OPENING) return faultOf(line.text);
    // In TLS it is the caller who speaks first: what comes before is not the owner's.
    return line.rest.length === 0 ? 'begin' : 'not a relay';
  }
}

function newNonce(): string {
  return randomBytes(NONCE_BYTES).toString('hex');
}

function proofOf(key: KeyObject, role: Role, ownerNonce: string, callerNonce: string): Buffer {
  // No part can hold a blank, so that no two greetings come to the same text.
  const text = `${NAME}${VERSION} ${role} ${ownerNonce} ${callerNonce}`;
  return createHmac('sha256', key).update(text).digest();
}

function isProof(hex: string, expected: Uint8Array): boolean {
  return timingSafeEqual(Buffer.from(hex, 'hex'), expected);
}

function failed(fault: GreetingFault, say = ''): GreetingStep {
  return { kind: 'failed', say, fault };
}

/** False as soon as a byte shows that this is no relay: it need not be heard out. */
function mayBecomeOpening(text: string): boolean {
  return text.length < NAME.length ? NAME.startsWith(text) : text.startsWith(NAME);
}

function faultOf(text: string): GreetingFault {
  return OTHER_VERSION.test(text) ? 'version' : 'not a relay';
}
