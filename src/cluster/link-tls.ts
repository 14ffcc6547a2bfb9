import { hkdfSync, constants as openssl } from 'node:crypto';
import { connect, createSecureContext } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { errorCode } from '../process/errors.ts';
import type { IoBackend } from '../transport/io-backend.ts';
import { startNodeTls } from '../transport/uv-handle.ts';
import type { ByteStream } from '../transport/byte-stream.ts';
import { LINK_PROTOCOL } from './link-auth.ts';
import type { LinkAuthFailure } from './link-auth.ts';

/** The only cipher suite for a pre-shared key without a hash: such a key implies SHA-256 (RFC 8446, 4.2.11). */
const CIPHER_SUITE = 'TLS_AES_128_GCM_SHA256';

/** OpenSSL's error codes, at either end, if the other one has another key. */
const KEY_MISMATCH_CODES: ReadonlySet<string> = new Set([
  'ERR_SSL_BINDER_DOES_NOT_VERIFY',
  'ERR_SSL_TLSV1_ALERT_DECRYPT_ERROR',
]);

/** Like `ECONNRESET`. All other codes are of TLS: OpenSSL's begin with `ERR_SSL_`, and those of certificates are words. */
const SYSTEM_ERROR = /^E[A-Z0-9]+$/u;

/** The handshake finished without the pre-shared key. */
const KEY_NOT_SHARED = 'ERR_TLS_KEY_NOT_SHARED';

/** The other end has proven that it has the secret, or has failed to. One of the two is called at most. */
export interface LinkTlsObserver {
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

  /** Adds the owner's end of TLS to a stream, which must not be used any more. */
  wrapServer(backend: IoBackend, stream: ByteStream, observer: LinkTlsObserver): ByteStream {
    const link = this.#wrapShared(backend, stream, 'server', observer);
    if (link !== null) return link;
    return backend.startTlsWith(stream, (socket) => {
      const pskCallback = (_: TLSSocket, identity: string): Buffer | null =>
        identity === LINK_PROTOCOL ? this.#key : null;
      const options = { secureContext: this.#context, pskCallback };
      const secured = startNodeTls(socket, options, () => reportHandshake(secured, observer));
      return withErrorReport(secured, observer);
    });
  }

  /** Adds the caller's end of TLS, which sends first. */
  wrapClient(backend: IoBackend, stream: ByteStream, observer: LinkTlsObserver): ByteStream {
    const link = this.#wrapShared(backend, stream, 'client', observer);
    if (link !== null) return link;
    return backend.startTlsWith(stream, (socket) => {
      const secured = connect({
        socket,
        secureContext: this.#context,
        pskCallback: () => ({ psk: this.#key, identity: LINK_PROTOCOL }),
        // Called only if the other end has sent a certificate instead.
        checkServerIdentity: () => new Error('a relay has no certificate'),
      });
      secured.once('secureConnect', () => reportHandshake(secured, observer));
      return withErrorReport(secured, observer);
    });
  }

  /** Null if the shared buffer does not support TLS. */
  #wrapShared(
    backend: IoBackend,
    stream: ByteStream,
    role: 'server' | 'client',
    observer: LinkTlsObserver,
  ): ByteStream | null {
    return backend.startLinkTls(stream, {
      role,
      context: this.#context,
      preSharedKey: { identity: LINK_PROTOCOL, key: this.#key },
      observer: {
        onReady: () => observer.onAuthenticated(),
        onFailed: (code) => reportFailure(code, observer),
      },
    });
  }
}

/** A handshake with a certificate proves nothing. Node.js accepts one if NODE_TLS_REJECT_UNAUTHORIZED is 0. */
function reportHandshake(socket: TLSSocket, observer: LinkTlsObserver): void {
  if (socket.isSessionReused()) observer.onAuthenticated();
  else reportFailure(KEY_NOT_SHARED, observer);
}

function withErrorReport(socket: TLSSocket, observer: LinkTlsObserver): TLSSocket {
  socket.on('error', (error) => reportFailure(errorCode(error), observer));
  return socket;
}

function reportFailure(code: string, observer: LinkTlsObserver): void {
  if (KEY_MISMATCH_CODES.has(code)) observer.onFailed('secret');
  else if (!SYSTEM_ERROR.test(code)) observer.onFailed('not a relay');
}
