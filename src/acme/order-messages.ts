/** The messages between the relay and the process that orders a certificate (`order-process.ts`). */

/** How the certificate authority (CA) checks a domain: RFC 8737, and RFC 8555, section 8.3. */
export type ChallengeType = 'tls-alpn-01' | 'http-01';

/** One order, from the relay. */
export interface OrderTask {
  readonly directoryUrl: string;
  readonly email: string | null;
  readonly domains: readonly string[];
  /** PEM. */
  readonly accountKey: string;
  readonly challengeType: ChallengeType;
}

/** What the relay has to answer to the CA. Keys and certificates are PEM. */
export type Challenge =
  | {
      readonly type: 'tls-alpn-01';
      readonly domain: string;
      readonly key: string;
      readonly certificate: string;
    }
  | { readonly type: 'http-01'; readonly token: string; readonly answer: string };

/** A certificate with its chain, and its key, as PEM. */
export interface IssuedCertificate {
  readonly chain: string;
  readonly key: string;
}

export interface OrderFailure {
  /**
   * The CA's problem without its prefix, like `dns` (RFC 8555, section 6.7). `state`: a file can't be written.
   * Null: the CA did not answer, or not by ACME.
   */
  readonly problem: string | null;
  /** The CA's text, or an error code. */
  readonly detail: string;
  /** The CA's Retry-After, in milliseconds since the epoch; null: none. */
  readonly retryAtMs: number | null;
}

/** Sent by the process. The relay answers `challenge` with `'presented'`. */
export type OrderReport =
  | { readonly kind: 'challenge'; readonly challenge: Challenge }
  | { readonly kind: 'issued'; readonly issued: IssuedCertificate }
  | { readonly kind: 'failed'; readonly failure: OrderFailure };
