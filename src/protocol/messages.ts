/**
 * The whole conversation.
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
 * Instead of `ok` a client may hear `bad handshake` (its line is no handshake) or `impatient` (it sent
 * bytes before `ok`), or be refused: `busy` (no room), `over quota` (no bytes left in this period) or
 * `shutting down`. All are followed by a close. A connection that became redundant is closed without a
 * word, and so is a line that is too long.
 *
 * Where several relays are one group, the first of them that a token comes to is its owner, and the others pass their
 * clients on to it, line and bytes, each over a link of its own. On a link the owner has one more word: `elsewhere`, as the
 * token is not its own.
 */

/** The longest line that is read, in bytes and without its newline. Source: the reference's line reader. */
export const MAX_LINE_BYTES = 1024;

/** Characters in a token: 32 bytes of HKDF output in hex. */
export const TOKEN_LENGTH = 64;

/** Characters in a side: 8 random bytes in hex. */
export const SIDE_LENGTH = 16;

export const NEWLINE = 0x0a;

/** What the relay may say to a client. */
export type Reply =
  'ok' | 'bad handshake' | 'impatient' | 'busy' | 'over quota' | 'shutting down' | 'elsewhere';

/** What two clients have in common. A secret: it never leaves the process. */
export type Token = string & { readonly brand: 'Token' };

/** Tells the two ends of a transfer apart. A secret too. */
export type Side = string & { readonly brand: 'Side' };

/** How a connection or a pair ended, as usage records say it. */
export type Mood = 'happy' | 'lonely' | 'redundant' | 'impatient' | 'errory' | 'empty';

export const MOODS: readonly Mood[] = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty'];

const encoder = new TextEncoder();

/** The relay's words as they are sent. */
export const REPLIES: Readonly<Record<Reply, Uint8Array>> = {
  ok: encoder.encode('ok\n'),
  'bad handshake': encoder.encode('bad handshake\n'),
  impatient: encoder.encode('impatient\n'),
  busy: encoder.encode('busy\n'),
  'over quota': encoder.encode('over quota\n'),
  'shutting down': encoder.encode('shutting down\n'),
  elsewhere: encoder.encode('elsewhere\n'),
};
