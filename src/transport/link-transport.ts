import { REPLIES } from '../protocol/messages.ts';
import type { CloseCode } from '../protocol/session.ts';
import { CLIENT_KEEPALIVE } from './byte-stream.ts';
import type { ByteStream, KeepAlive } from './byte-stream.ts';
import type { TransportKind } from './client-transport.ts';
import { RawTransport } from './raw-transport.ts';

/**
 * Used until the client has a partner. A dead relay is detected after 15 s, and its waiting clients return to
 * their own relays. They lose nothing by a network outage.
 */
const WAITING_LINK_KEEPALIVE: KeepAlive = { delaySeconds: 5, intervalSeconds: 1, probes: 10 };

/**
 * Sent on a link before a client is closed without a reply: a link that ends without one counts as a failure.
 */
export const NO_REPLY = 'gone';

const NO_REPLY_LINE = new TextEncoder().encode(`${NO_REPLY}\n`);

/** A client that another relay forwards over a link. */
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

  /**
   * The client has a partner. Closing the link would now end a transfer, so it gets the keepalive of a
   * client.
   */
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
