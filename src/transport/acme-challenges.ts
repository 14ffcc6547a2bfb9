import type { SecureContext } from 'node:tls';
import { parseClientHello } from '../protocol/client-hello.ts';

/** The application protocol of TLS-ALPN-01 (RFC 8737). */
export const ACME_TLS_PROTOCOL = 'acme-tls/1';

const HTTP_CHALLENGE_PATH = '/.well-known/acme-challenge/';

/**
 * Answers to the certificate authority, which connects to the listeners for clients to check that this relay
 * controls its domains. Empty except for the seconds of such a check.
 */
export class AcmeChallenges {
  /** TLS-ALPN-01: the certificate to present, by domain. */
  readonly tls = new Map<string, SecureContext>();
  /** HTTP-01: the answers by token (RFC 8555, section 8.3). */
  readonly http = new Map<string, string>();

  /**
   * The certificate for a TLS connection that the certificate authority makes. `incomplete`: the bytes are too
   * few to tell. Null: the connection is of a client.
   *
   * @param head the first bytes of the connection
   */
  tlsContextFor(head: Uint8Array): SecureContext | 'incomplete' | null {
    if (this.tls.size === 0) return null;
    const hello = parseClientHello(head);
    if (hello === 'incomplete') return hello;
    if (hello === 'other' || hello.protocols.length !== 1 || hello.protocols[0] !== ACME_TLS_PROTOCOL)
      return null;
    return this.tls.get(hello.serverName ?? '') ?? null;
  }

  /** The response to a request of the certificate authority. Null: it is not such a request. */
  httpAnswerFor(path: string): string | null {
    if (this.http.size === 0 || !path.startsWith(HTTP_CHALLENGE_PATH)) return null;
    return this.http.get(path.slice(HTTP_CHALLENGE_PATH.length)) ?? null;
  }
}
