import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** A key and its certificate, both in PEM format, as issued by a certificate authority. */
export interface Identity {
  readonly name: string;
  readonly key: string;
  readonly certificate: string;
  readonly keyObject: KeyObject;
}

export interface IdentityOptions {
  readonly type?: 'ec' | 'rsa';
  /** Size of an RSA key; default 2048. */
  readonly bits?: number;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  /** Default: self-signed. */
  readonly issuer?: Identity;
}

const DAY_MS = 86_400_000;

/**
 * Creates a key and a certificate that any TLS client accepts. By default, it is valid from yesterday for 90
 * days from now.
 */
export function makeIdentity(name = 'localhost', options: IdentityOptions = {}): Identity {
  const { type = 'ec', bits = 2048, issuer } = options;
  const pair =
    type === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
      : generateKeyPairSync('rsa', { modulusLength: bits });
  const notBefore = options.notBefore ?? new Date(Date.now() - DAY_MS);
  const notAfter = options.notAfter ?? new Date(Date.now() + 90 * DAY_MS);
  const signer = issuer?.keyObject ?? pair.privateKey;
  const algorithm = ALGORITHMS[signer.asymmetricKeyType === 'ec' ? 'ec' : 'rsa'];
  // RFC 5280, 4.1
  const certified = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    algorithm,
    nameOf(issuer?.name ?? name),
    sequence(timeOf(notBefore), timeOf(notAfter)),
    nameOf(name),
    pair.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(isAuthority, alternativeName(name))),
  );
  const signature = bitString(sign('sha256', certified, signer));
  return {
    name,
    key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: pem('CERTIFICATE', sequence(certified, algorithm, signature)),
    keyObject: pair.privateKey,
  };
}

export function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/gu) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

/** DER (X.690): a tag, a length and the content. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const length = content.length;
  const long = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...(length < 0x80 ? [length] : long)]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, ...parts);
}

function integer(bytes: Buffer): Buffer {
  return der(0x02, bytes);
}

function bitString(bytes: Buffer): Buffer {
  return der(0x03, Buffer.from([0]), bytes);
}

/** @param hex the encoded identifier */
function oid(hex: string): Buffer {
  return der(0x06, Buffer.from(hex, 'hex'));
}

const TRUE = der(0x01, Buffer.from([0xff]));

const ALGORITHMS = {
  // ecdsa-with-SHA256
  ec: sequence(oid('2a8648ce3d040302')),
  // sha256WithRSAEncryption, which needs a null after it
  rsa: sequence(oid('2a864886f70d01010b'), der(0x05)),
};

const isAuthority = sequence(oid('551d13'), TRUE, der(0x04, sequence(TRUE)));

function alternativeName(name: string): Buffer {
  const address = der(0x87, Buffer.from([127, 0, 0, 1]));
  return sequence(oid('551d11'), der(0x04, sequence(der(0x82, Buffer.from(name)), address)));
}

function nameOf(name: string): Buffer {
  return sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(name)))));
}

/** UTCTime, for years from 1950 to 2049. */
function timeOf(date: Date): Buffer {
  const digits = date.toISOString().replaceAll(/\D/gu, '').slice(2, 14);
  return der(0x17, Buffer.from(`${digits}Z`));
}
