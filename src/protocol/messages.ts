/**
 * The whole protocol.
 *
 *     first client                 relay                  second client
 *     please relay T for side S ->
 *                                  (waits under T)
 *                                        <- please relay T for side R
 *                           <- ok | ok ->
 *     bytes ------------------------------------------------> bytes
 *     bytes <------------------------------------------------ bytes
 *     FIN ->            (delivers what was sent)                -> FIN
 *
 * Instead of `ok`, a client may get `bad handshake` (its line is not a handshake) or `impatient` (it sent
 * bytes before `ok`). It may also be rejected: `busy` (no capacity), `over quota` (no bytes left in this
 * period) or `shutting down`. A close follows each of them. A redundant connection is closed without a reply,
 * and so is a connection with an overlong line.
 *
 * In a cluster of relays, the first relay that gets a token is its owner. The other relays forward their
 * clients to it, line and bytes, each client over a link of its own. On a link, the owner has one more reply:
 * `elsewhere`, when it does not own the token.
 */

/** The longest line that is read, in bytes without its newline. Source: the reference's line reader. */
export const MAX_LINE_BYTES = 1024;

/** Characters in a token: 32 bytes of HKDF output in hex. */
export const TOKEN_LENGTH = 64;

/** Characters in a side: 8 random bytes in hex. */
export const SIDE_LENGTH = 16;

export const NEWLINE = 0x0a;

/** The replies of the relay to a client. */
export type Reply =
  'ok' | 'bad handshake' | 'impatient' | 'busy' | 'over quota' | 'shutting down' | 'elsewhere';

/** What the two clients of a transfer share. A secret: it never leaves the process. */
export type Token = string & { readonly brand: 'Token' };

/** Distinguishes the two ends of a transfer. Also a secret. */
export type Side = string & { readonly brand: 'Side' };

export const MOODS = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty'] as const;

/** How a connection or pair ended, as in usage records. */
export type Mood = (typeof MOODS)[number];

const encoder = new TextEncoder();

/** The replies as they are sent. */
export const REPLIES: Readonly<Record<Reply, Uint8Array>> = {
  ok: encoder.encode('ok\n'),
  'bad handshake': encoder.encode('bad handshake\n'),
  impatient: encoder.encode('impatient\n'),
  busy: encoder.encode('busy\n'),
  'over quota': encoder.encode('over quota\n'),
  'shutting down': encoder.encode('shutting down\n'),
  elsewhere: encoder.encode('elsewhere\n'),
};
