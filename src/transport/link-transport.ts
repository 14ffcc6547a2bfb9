import { REPLIES } from '../protocol/messages.ts';
import type { CloseCode } from '../protocol/session.ts';
import { CLIENT_KEEPALIVE } from './byte-stream.ts';
import type { ByteStream, KeepAlive } from './byte-stream.ts';
import type { TransportKind } from './client-transport.ts';
import { RawTransport } from './raw-transport.ts';

/**
 * Until the client has a partner. A dead relay is found after 15 s, and its waiting clients go back to their own relays; they
 * lose nothing by a network outage.
 */
const WAITING_LINK_KEEPALIVE: KeepAlive = { delaySeconds: 5, intervalSeconds: 1, probes: 10 };

/** What is said on a link before a client is closed without a word: a link that just ends is taken for a fault. */
export const NO_REPLY = 'gone';

const NO_REPLY_LINE = new TextEncoder().encode(`${NO_REPLY}\n`);

/** A client that another relay passes on, over a link. */
export class LinkTransport extends RawTransport {
  readonly #stream: ByteStream;
  #hasSentReply = false;

  constructor(stream: ByteStream) {
    super(stream);
    this.#stream = stream;
    stream.setKeepAlive(WAITING_LINK_KEEPALIVE);
  }

  override get kind(): TransportKind {
    return 'link';
  }

  /** The client has a partner. Closing the link now would end their transfer, so it lasts as long as a client's connection. */
  onPaired(): void {
    this.#stream.setKeepAlive(CLIENT_KEEPALIVE);
  }

  override send(bytes: Uint8Array): boolean {
    if (!this.#hasSentReply) {
      this.#hasSentReply = true;
      if (bytes === REPLIES.ok) this.onPaired();
    }
    return super.send(bytes);
  }

  override closeGracefully(code: CloseCode, hadPartner: boolean): void {
    if (!this.#hasSentReply) this.send(NO_REPLY_LINE);
    super.closeGracefully(code, hadPartner);
  }
}
