import type { CloseCode } from '../protocol/session.ts';
import type { Transport } from './peer.ts';
import { SocketPeer } from './socket-peer.ts';
import type { Wire } from './wire.ts';

/**
 * Probes start after this silence, in milliseconds. Whoever waits at a relay that has vanished is stuck until they have found that
 * out: this and the ten seconds that Node has for the probes.
 */
const LINK_KEEPALIVE_MS = 5000;

/** What is said on a link before a client is closed without a word: a link that just ends is taken for a fault. */
export const WORDLESS = 'gone';

const GONE = new TextEncoder().encode(`${WORDLESS}\n`);

/** A client that another relay passes on, over a link. */
export class LinkPeer extends SocketPeer {
  #hasSaid = false;

  constructor(wire: Wire) {
    super(wire);
    wire.keepAlive(LINK_KEEPALIVE_MS);
  }

  override get transport(): Transport {
    return 'link';
  }

  override send(bytes: Uint8Array): boolean {
    this.#hasSaid = true;
    return super.send(bytes);
  }

  override finish(code: CloseCode): void {
    if (!this.#hasSaid) this.send(GONE);
    super.finish(code);
  }
}
