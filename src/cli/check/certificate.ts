import type { PeerCertificate, TLSSocket } from 'node:tls';
import { TestFailure, printable } from './failure.ts';
import type { Target } from './target.ts';

const DAY_MS = 86_400_000;

/** The certificate of a server. */
export interface Certificate {
  readonly expires: Date;
  /** Full days until then; negative if it has expired. */
  readonly days: number;
  /** Why clients reject it; null if they accept it. */
  readonly problem: string | null;
}

/**
 * Judges the certificate of a connection that was opened without verification.
 *
 * @throws TestFailure if the server has none
 */
export function readCertificate(socket: TLSSocket, target: Target): Certificate {
  const certificate = socket.getPeerCertificate();
  const expires = new Date(certificate.valid_to);
  if (Number.isNaN(expires.getTime())) throw new TestFailure('tls', 'the server has no certificate');
  const days = Math.floor((expires.getTime() - Date.now()) / DAY_MS);
  // Node stores the code as a string, the types say Error.
  const code = socket.authorized ? null : String(socket.authorizationError);
  return { expires, days, problem: code === null ? null : problemOf(code, certificate, target) };
}

function problemOf(code: string, certificate: PeerCertificate, { host }: Target): string {
  const [begin, end] = [certificate.valid_from, certificate.valid_to].map((text) => new Date(text));
  const dateOf = (date: Date | undefined): string => date?.toISOString().slice(0, 10) ?? '';
  switch (code) {
    case 'CERT_HAS_EXPIRED':
      return end !== undefined && end.getTime() < Date.now()
        ? `the certificate expired on ${dateOf(end)}; renew it`
        : 'an intermediate certificate has expired; renew the certificate';
    case 'CERT_NOT_YET_VALID':
      return `the certificate is not valid before ${dateOf(begin)}; check the clocks of both machines`;
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return 'the certificate is self-signed, so clients reject it; get one from a public authority';
    case 'SELF_SIGNED_CERT_IN_CHAIN':
      return 'the certificate is from a private authority, so clients reject it; get one from a public authority';
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return 'the issuer of the certificate is unknown; use the file with the intermediate certificates (fullchain.pem), or a public authority';
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `the certificate is for ${namesOf(certificate)}, not for ${host}`;
    default:
      return `the certificate is invalid (${printable(code)})`;
  }
}

function namesOf({ subjectaltname = '', subject }: PeerCertificate): string {
  const names = subjectaltname.replaceAll(/(?:DNS|IP Address):/gu, '');
  return printable(names === '' ? String(subject?.CN ?? 'no name') : names);
}
