import type { Reply } from '../protocol/wire.ts';

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
