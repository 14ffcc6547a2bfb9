import type { CloseCode } from '../protocol/session.ts';
import type { Transport } from './peer.ts';
import { REPLIES } from './replies.ts';
import { SocketPeer } from './socket-peer.ts';
import { CLIENT_KEEPALIVE } from './wire.ts';
import type { KeepAlive, Wire } from './wire.ts';

/**
 * Until the client has a partner. A dead relay is found after 15 s, and its waiting clients go back to their own relays; they
 * lose nothing by a network outage.
 */
const WAITING_LINK_KEEPALIVE: KeepAlive = { delaySeconds: 5, intervalSeconds: 1, probes: 10 };

/** What is said on a link before a client is closed without a word: a link that just ends is taken for a fault. */
export const WORDLESS = 'gone';

const GONE = new TextEncoder().encode(`${WORDLESS}\n`);

/** A client that another relay passes on, over a link. */
export class LinkPeer extends SocketPeer {
  readonly #wire: Wire;
  #hasSaid = false;

  constructor(wire: Wire) {
    super(wire);
    this.#wire = wire;
    wire.keepAlive(WAITING_LINK_KEEPALIVE);
  }

  override get transport(): Transport {
    return 'link';
  }

  /** The client has a partner. Closing the link now would end their transfer, so it lasts as long as a client's connection. */
  partnerFound(): void {
    this.#wire.keepAlive(CLIENT_KEEPALIVE);
  }

  override send(bytes: Uint8Array): boolean {
    if (!this.#hasSaid) {
      this.#hasSaid = true;
      if (bytes === REPLIES.ok) this.partnerFound();
    }
    return super.send(bytes);
  }

  override finish(code: CloseCode, hadPartner: boolean): void {
    if (!this.#hasSaid) this.send(GONE);
    super.finish(code, hadPartner);
  }
}
