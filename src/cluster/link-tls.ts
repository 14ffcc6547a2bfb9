import { hkdfSync, constants as openssl } from 'node:crypto';
import { connect, createSecureContext } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { errorCode } from '../process/error-code.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { startNodeTls } from '../transport/uv-handle.ts';
import type { ByteStream } from '../transport/byte-stream.ts';
import type { LinkAuthFailure } from './link-auth.ts';

/** The one suite for a key that was agreed on without a hash: such a key means SHA-256 (RFC 8446, 4.2.11). */
const CIPHER_SUITE = 'TLS_AES_128_GCM_SHA256';

/** There is one key in a group, so that its name says nothing. */
const PSK_IDENTITY = 'transit-relay-cluster';

/** What OpenSSL says to either end where the other one has another key. */
const KEY_MISMATCH_CODES: ReadonlySet<string> = new Set([
  'ERR_SSL_BINDER_DOES_NOT_VERIFY',
  'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR',
]);

/** Like `ECONNRESET`. All others are of TLS: OpenSSL's begin with `ERR_SSL_`, and what is wrong with a certificate has words of its own. */
const SYSTEM_ERROR = /^E[A-Z0-9]+$/u;

/**
 * TLS 1.3 on links, with a key that is made of the group's secret: there are no certificates that could run out, and who has
 * not got the secret is neither end. Each link has keys of its own besides (`psk_dhe_ke`), so that the secret, should it ever be lost,
 * does not open what was recorded before.
 */
export class LinkTls {
  readonly #key: Buffer;
  // No authority is trusted: a certificate proves nothing here.
  readonly #context = createSecureContext({
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHER_SUITE,
    // A link is never resumed, and the key of tickets would live as long as the process.
    secureOptions: openssl.SSL_OP_NO_TICKET,
    ca: [],
  });

  /** @param secret what all relays of the group have in common */
  constructor(secret: string) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'transit-relay-cluster link TLS', 32));
  }

  /**
   * Puts the called end on a wire, which is not to be used any more. Nothing may be written before it is ready: what fails then is the
   * write, and not why.
   *
   * @param failed is told why there is none, before the wire is lost; not told of a network that fails
   */
  wrapServer(
    backend: IoBackend,
    stream: ByteStream,
    ready: () => void,
    failed: (fault: LinkAuthFailure) => void,
  ): ByteStream {
    const link = backend.startLinkTls(stream, {
      role: 'server',
      context: this.#context,
      preSharedKey: { identity: PSK_IDENTITY, key: this.#key },
      observer: { onReady: ready, onFailed: (code) => reportFailure(code, failed) },
    });
    if (link !== null) return link;
    return backend.startTlsWith(stream, (socket) => {
      const pskCallback = (_: TLSSocket, identity: string): Buffer | null =>
        identity === PSK_IDENTITY ? this.#key : null;
      const options = { secureContext: this.#context, pskCallback };
      return withErrorReport(startNodeTls(socket, options, ready), failed);
    });
  }

  /** The same for the end that calls, which speaks first. */
  wrapClient(backend: IoBackend, stream: ByteStream, failed: (fault: LinkAuthFailure) => void): ByteStream {
    const link = backend.startLinkTls(stream, {
      role: 'client',
      context: this.#context,
      preSharedKey: { identity: PSK_IDENTITY, key: this.#key },
      observer: { onReady: () => undefined, onFailed: (code) => reportFailure(code, failed) },
    });
    if (link !== null) return link;
    return backend.startTlsWith(stream, (socket) => {
      const secured = connect({
        socket,
        secureContext: this.#context,
        pskCallback: () => ({ psk: this.#key, identity: PSK_IDENTITY }),
        // It is asked only where the other end has shown a certificate instead.
        checkServerIdentity: () => new Error('a relay has no certificate'),
      });
      return withErrorReport(secured, failed);
    });
  }
}

function withErrorReport(socket: TLSSocket, failed: (fault: LinkAuthFailure) => void): TLSSocket {
  socket.on('error', (error) => reportFailure(errorCode(error), failed));
  return socket;
}

function reportFailure(code: string, failed: (fault: LinkAuthFailure) => void): void {
  if (KEY_MISMATCH_CODES.has(code)) failed('secret');
  else if (!SYSTEM_ERROR.test(code)) failed('not a relay');
}
