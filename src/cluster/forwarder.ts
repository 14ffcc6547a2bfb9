import { formatHandshake } from '../protocol/handshake.ts';
import { NEWLINE } from '../protocol/messages.ts';
import type { Side, Token } from '../protocol/messages.ts';
import type { SessionEvent, SessionState } from '../protocol/session.ts';
import type { ClientSession } from '../sessions/client-session.ts';
import type { Splice } from '../sessions/splice.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ClientTransportHandler } from '../transport/client-transport.ts';
import { LinkTransport, NO_REPLY } from '../transport/link-transport.ts';
import type { Link } from './link-client.ts';
import type { ClusterRouter, Owner } from './router.ts';

/** Limit for the owner's reply with its newline, in bytes. It leaves room for longer replies of later versions. */
const MAX_OWNER_REPLY_BYTES = 64;

/** The owner sends one of these replies to a forwarded client, once. The session gets the event. */
const EVENT_BY_REPLY: ReadonlyMap<string, SessionEvent> = new Map<string, SessionEvent>([
  ['ok', 'forwarded'],
  ['impatient', 'early-bytes'],
  ['busy', 'busy'],
  ['over quota', 'over-quota'],
  [NO_REPLY, 'partner-gone'],
]);

/** Limit for bytes that a client sends before its partner is known. Further bytes stay in the kernel. */
const MAX_EARLY_BYTES = 65_536;

/** Time before the owner is looked up again after the last one rejected the client, in milliseconds. It doubles each time. */
const RETRY_MS = 50;

const MAX_RETRY_MS = 2000;

/**
 * Interval for checking that a relay that has not replied still owns the token, in milliseconds. A relay that hangs, or has
 * lost the coordinator, keeps its links, while other clients of the token are paired at another relay.
 */
const OWNER_CHECK_INTERVAL_MS = 15_000;

/** The part of a session that forwarding uses. */
export type ForwardableClient = Pick<
  ClientSession,
  | 'transport'
  | 'state'
  | 'dispatch'
  | 'joinRendezvous'
  | 'onData'
  | 'startForwarding'
  | 'onLinkDelivered'
  | 'guard'
>;

/**
 * - `waiting`: the client is in its own relay's rendezvous, while the owner is looked up or because this relay is the owner
 * - `connecting`: a link to the owner is being opened
 * - `awaiting-reply`: the owner has the client's handshake line
 * - `forwarding`: the owner has paired the client
 * - `closed`: the owner has rejected the client, or the link has ended
 */
type ForwarderState = 'waiting' | 'connecting' | 'awaiting-reply' | 'forwarding' | 'closed';

/**
 * Finds the relay that owns a client's token, and forwards the client to it.
 *
 * Meanwhile the client waits in its own relay's rendezvous and is not read: its partner may connect there first. Bytes that
 * it sent behind its handshake line are kept for its partner, wherever that is.
 *
 * The owner can refuse (`not-owner`) or be unreachable. The client then joins its own relay's rendezvous again, and the
 * owner is looked up again. The client notices nothing.
 */
export class Forwarder {
  readonly #client: ForwardableClient;
  readonly #router: ClusterRouter;
  readonly #token: Token;
  readonly #side: Side | null;
  #state: ForwarderState = 'waiting';
  #owner: Owner | null = null;
  /** The link to the owner. Null until it is connected, and once it has ended. */
  #link: LinkTransport | null = null;
  #splice: Splice | null = null;
  #partialReply: Uint8Array = EMPTY_BYTES;
  #earlyData: Uint8Array = EMPTY_BYTES;
  #isPaused = false;
  #retryMs = RETRY_MS;
  /** For the next lookup, or for the next check of the owner. */
  #timer: NodeJS.Timeout | undefined;
  /** The lookup or connection attempt whose result counts. Results of earlier ones are outdated. */
  #pending: Promise<unknown> | null = null;

  constructor(client: ForwardableClient, router: ClusterRouter, token: Token, side: Side | null) {
    this.#client = client;
    this.#router = router;
    this.#token = token;
    this.#side = side;
  }

  /**
   * Looks up the owner. The client waits.
   *
   * @param early the bytes that it sent behind its handshake line
   */
  start(early: Uint8Array): void {
    this.#bufferEarlyData(early);
    this.#pauseClient();
    this.#lookUpOwner(this.#router.resolveOwner(this.#token));
  }

  /**
   * Forwards the client to the owner of its token. Does nothing if the client does not wait any more.
   *
   * @param owner null: this relay
   */
  onOwnerResolved(owner: Owner | null): void {
    this.#pending = null;
    this.#stopTimer();
    if (!this.#isClientIn('waiting')) return;
    if (owner === null) {
      this.flushEarlyData();
      return;
    }
    if (this.#client.transport.kind === 'link') {
      this.#client.dispatch('not-owner');
      return;
    }
    this.#pauseClient();
    this.#client.dispatch('redirected');
    this.#connect(owner);
  }

  /** Resumes reading the client, and handles the bytes that it sent earlier: its place is known, or it is closing. */
  flushEarlyData(): void {
    this.#stopTimer();
    if (!this.#isPaused) return;
    this.#resumeClient();
    const early = this.#earlyData;
    this.#earlyData = EMPTY_BYTES;
    if (early.length > 0) this.#client.onData(early);
  }

  /** Keeps bytes of a waiting client. False if this relay owns the token, so that the client must not send anything yet. */
  tryBuffer(bytes: Uint8Array): boolean {
    if (this.#isPaused) this.#bufferEarlyData(bytes);
    return this.#isPaused;
  }

  /** Handles bytes that the client sends before the owner has replied. They are kept in case that relay is not the owner. */
  onClientData(bytes: Uint8Array): void {
    this.#link?.send(bytes);
    this.#bufferEarlyData(bytes);
    if (this.#earlyData.length > MAX_EARLY_BYTES) this.#pauseClient();
  }

  /** Forwards bytes of a paired client. */
  forward(bytes: Uint8Array): void {
    this.#splice?.forward(this.#client.transport, bytes);
  }

  /** The client's send buffer is empty. */
  onClientDrain(): void {
    this.#splice?.receiverDrained(this.#client.transport);
  }

  /** Closes the link, once its buffered bytes have been delivered to the owner. */
  closeUpstream(): void {
    this.#closeLink('closed');
  }

  /** Closes the link at once. */
  resetUpstream(): void {
    const link = this.#link;
    this.#link = null;
    this.#closeLink('closed');
    link?.abort('reset');
  }

  #lookUpOwner(lookup: Promise<Owner | null>): void {
    this.#pending = lookup;
    void lookup.then((owner) => {
      if (this.#pending === lookup) this.#client.guard(() => this.onOwnerResolved(owner));
    });
  }

  #connect(owner: Owner): void {
    this.#state = 'connecting';
    this.#owner = owner;
    const attempt = this.#router.connect(owner);
    this.#pending = attempt;
    attempt.then(
      (link) => {
        if (this.#pending === attempt) this.#client.guard(() => this.#onConnected(link));
        else link.stream.abort();
      },
      () => {
        if (this.#pending === attempt) this.#onUpstreamFailed('unreachable');
      },
    );
    this.#scheduleOwnerCheck(owner);
  }

  #onConnected({ stream, firstBytes }: Link): void {
    const link = new LinkTransport(stream);
    this.#pending = null;
    this.#link = link;
    this.#state = 'awaiting-reply';
    link.start(this.#linkHandler(link));
    link.resume();
    // The line is not kept: most waiting clients are never forwarded.
    link.send(formatHandshake(this.#token, this.#side));
    if (this.#earlyData.length > 0) link.send(this.#earlyData);
    if (this.#link !== link) return;
    this.#resumeClient();
    if (firstBytes.length > 0) link.onBytes(firstBytes);
  }

  /** Ignores a link that has been replaced or closed here: it may still deliver what it has buffered. */
  #linkHandler(link: LinkTransport): ClientTransportHandler {
    return {
      onData: (bytes) => {
        if (this.#link !== link) return;
        if (this.#state === 'forwarding') this.#splice?.forward(link, bytes);
        else this.#readReply(link, bytes);
      },
      onText: () => undefined,
      onWritable: () => {
        if (this.#link === link) this.#splice?.receiverDrained(link);
        else this.#client.onLinkDelivered(link);
      },
      onEnd: () => {
        if (this.#link === link) this.#onLinkEnd();
      },
      onClose: () => {
        if (this.#link !== link) {
          this.#client.onLinkDelivered(link);
          return;
        }
        // Closed already: a graceful close would start a timer that nothing cancels.
        this.#link = null;
        this.#onLinkEnd();
      },
    };
  }

  #readReply(link: LinkTransport, bytes: Uint8Array): void {
    const received = this.#partialReply.length === 0 ? bytes : Buffer.concat([this.#partialReply, bytes]);
    const end = received.indexOf(NEWLINE);
    if (end < 0 && received.length < MAX_OWNER_REPLY_BYTES) {
      // The read buffer is reused.
      this.#partialReply = Uint8Array.from(received);
      return;
    }
    const text = Buffer.from(received.subarray(0, Math.max(0, end))).toString('latin1');
    const event = EVENT_BY_REPLY.get(text);
    if (event === undefined) this.#onUpstreamFailed('not-owner');
    else if (event === 'forwarded')
      this.#client.guard(() => this.#startForwarding(link, received.subarray(end + 1)));
    else this.#onRejected(event);
  }

  /** @param rest bytes of the partner that came behind the reply */
  #startForwarding(link: LinkTransport, rest: Uint8Array): void {
    this.#stopTimer();
    this.#state = 'forwarding';
    this.#partialReply = EMPTY_BYTES;
    link.onPaired();
    if (!this.#isClientIn('connecting-upstream')) return;
    const earlyBytes = this.#earlyData.length;
    this.#earlyData = EMPTY_BYTES;
    const splice = this.#client.startForwarding(link);
    this.#splice = splice;
    this.#client.dispatch('forwarded');
    this.#resumeClient();
    splice.reapplyPause();
    if (earlyBytes > 0) splice.countBytes(this.#client.transport, earlyBytes);
    if (rest.length > 0 && this.#isClientIn('forwarding')) splice.forward(link, rest);
  }

  #onRejected(event: SessionEvent): void {
    this.#closeLink('closed');
    this.#client.guard(() => {
      if (this.#isClientIn('connecting-upstream')) this.#client.dispatch(event);
    });
  }

  #onLinkEnd(): void {
    if (this.#state !== 'forwarding') {
      this.#onUpstreamFailed('not-owner');
      return;
    }
    this.#closeLink('closed');
    this.#client.dispatch('partner-gone');
  }

  /**
   * Lets the client wait here again. It has received nothing.
   *
   * @param failure `unreachable`: nothing answers there as a relay of this cluster; `not-owner`: that relay no longer owns
   * the token, or is stopping, or is gone
   */
  #onUpstreamFailed(failure: 'unreachable' | 'not-owner'): void {
    const owner = this.#owner;
    this.#closeLink('waiting');
    this.#client.guard(() => {
      if (!this.#isClientIn('connecting-upstream') || owner === null) return;
      this.#pauseClient();
      this.#client.joinRendezvous();
      if (!this.#isClientIn('waiting')) return;
      if (failure === 'unreachable') this.#lookUpOwner(this.#router.takeOver(this.#token, owner));
      else this.#scheduleRetry();
    });
  }

  #closeLink(next: ForwarderState): void {
    const link = this.#link;
    const hadPartner = this.#state === 'forwarding';
    this.#stopTimer();
    this.#state = next;
    this.#pending = null;
    this.#owner = null;
    this.#link = null;
    this.#partialReply = EMPTY_BYTES;
    link?.closeGracefully(1000, hadPartner);
  }

  /** Takes the client back from a relay that no longer owns its token. */
  #scheduleOwnerCheck(owner: Owner): void {
    const timer = setTimeout(() => {
      void this.#router.isOwner(this.#token, owner).then((isOwner) => {
        if (this.#timer !== timer) return;
        if (isOwner) this.#scheduleOwnerCheck(owner);
        else this.#onUpstreamFailed('not-owner');
      });
    }, OWNER_CHECK_INTERVAL_MS);
    this.#timer = timer;
  }

  #scheduleRetry(): void {
    this.#timer = setTimeout(() => {
      if (this.#isClientIn('waiting')) this.#lookUpOwner(this.#router.resolveOwner(this.#token));
    }, this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #bufferEarlyData(bytes: Uint8Array): void {
    // The read buffer is reused.
    if (bytes.length > 0) this.#earlyData = Uint8Array.from(Buffer.concat([this.#earlyData, bytes]));
  }

  #isClientIn(state: SessionState): boolean {
    return this.#client.state === state;
  }

  #pauseClient(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#client.transport.pause();
  }

  #resumeClient(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#client.transport.resume();
  }
}
