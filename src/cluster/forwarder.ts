import { formatHandshake } from '../protocol/handshake.ts';
import { NEWLINE } from '../protocol/messages.ts';
import type { Side, Token } from '../protocol/messages.ts';
import type { SessionEvent, SessionState } from '../protocol/session.ts';
import type { Splice } from '../sessions/splice.ts';
import { EMPTY_BYTES } from '../transport/byte-stream.ts';
import type { ClientTransport, ClientTransportHandler } from '../transport/client-transport.ts';
import { LinkTransport, NO_REPLY } from '../transport/link-transport.ts';
import type { Link } from './link-client.ts';
import type { ClusterRouter, Owner } from './router.ts';

/** The longest word that an owner says, in bytes and with its newline, and room for longer ones to come. */
const MAX_OWNER_REPLY_BYTES = 64;

/** What an owner says to a client that is passed on to it, once. */
const OWNER_REPLIES = ['ok', 'impatient', 'busy', 'over quota', NO_REPLY] as const;

export type OwnerReply = (typeof OWNER_REPLIES)[number];

/** How a call came to nothing. The client has heard no word of it. */
export type UpstreamFailure =
  /** Nobody answers there, or not as a relay of this group. */
  | 'unreachable'
  /** The token is no longer the owner's, or the owner is going, or gone. */
  | 'moved';

/** Who makes the call. */
export interface UpstreamHandler {
  /** The owner takes what the client says. */
  onUpstreamConnected(): void;
  /** The owner has spoken. What came behind its word are the partner's bytes. */
  onUpstreamReply(word: OwnerReply, rest: Uint8Array): void;
  onUpstreamFailed(failure: UpstreamFailure): void;
  /** The owner's bytes, after `ok`. */
  onUpstreamData(bytes: Uint8Array): void;
  /** The owner has taken all that was held for it. */
  onUpstreamDrain(): void;
  /** The owner will send nothing more. */
  onUpstreamEnd(): void;
}

/** One client of ours that is passed on to the relay that owns its token. */
export class UpstreamConnection implements ClientTransportHandler {
  readonly #handler: UpstreamHandler;
  #transport: LinkTransport | null = null;
  /** `over`: it has ended, or come to nothing, and the caller is told nothing more. */
  #state: 'connecting' | 'asking' | 'carried' | 'over' = 'connecting';
  #partialReply: Uint8Array = EMPTY_BYTES;

  constructor(caller: UpstreamHandler) {
    this.#handler = caller;
  }

  /** The owner as a client has its partner. Null until it is connected. */
  get transport(): ClientTransport | null {
    return this.#transport;
  }

  /** @param line the client's, with its newline */
  start(router: Pick<ClusterRouter, 'connect'>, owner: Owner, line: Uint8Array): void {
    router.connect(owner).then(
      (link) => this.#onConnected(link, line),
      () => this.#fail('unreachable'),
    );
  }

  /** Ends the link behind what the owner has coming. */
  close(): void {
    const hadPartner = this.#state === 'carried';
    this.#state = 'over';
    this.#transport?.closeGracefully(1000, hadPartner);
  }

  onData(bytes: Uint8Array): void {
    if (this.#state === 'carried') this.#handler.onUpstreamData(bytes);
    else if (this.#state === 'asking') this.#readReply(bytes);
  }

  onText(): void {
    // There are no messages on a link.
  }

  onWritable(): void {
    if (this.#state !== 'over') this.#handler.onUpstreamDrain();
  }

  onEnd(): void {
    this.#transport?.closeGracefully(1000, this.#state === 'carried');
    this.onClose();
  }

  onClose(): void {
    if (this.#state === 'carried') {
      this.#state = 'over';
      this.#handler.onUpstreamEnd();
    }
    this.#fail('moved');
  }

  #onConnected({ stream, firstBytes }: Link, line: Uint8Array): void {
    if (this.#state === 'over') {
      stream.abort();
      return;
    }
    const peer = new LinkTransport(stream);
    this.#transport = peer;
    this.#state = 'asking';
    peer.start(this);
    peer.resume();
    peer.send(line);
    this.#handler.onUpstreamConnected();
    if (firstBytes.length > 0) peer.onBytes(firstBytes);
  }

  #readReply(bytes: Uint8Array): void {
    const heard = this.#partialReply.length === 0 ? bytes : Buffer.concat([this.#partialReply, bytes]);
    const end = heard.indexOf(NEWLINE);
    if (end < 0 && heard.length < MAX_OWNER_REPLY_BYTES) {
      // The read buffer is not ours to keep.
      this.#partialReply = Uint8Array.from(heard);
      return;
    }
    const said = Buffer.from(heard.subarray(0, Math.max(0, end))).toString('latin1');
    const word = OWNER_REPLIES.find((known) => known === said);
    if (word === undefined) {
      this.#transport?.closeGracefully(1000, false);
      this.#fail('moved');
      return;
    }
    this.#partialReply = EMPTY_BYTES;
    this.#state = word === 'ok' ? 'carried' : 'over';
    if (word === 'ok') this.#transport?.onPaired();
    else this.#transport?.closeGracefully(1000, false);
    this.#handler.onUpstreamReply(word, heard.subarray(end + 1));
  }

  #fail(failure: UpstreamFailure): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#handler.onUpstreamFailed(failure);
  }
}

/** What a client may have said before its partner is known. Further bytes stay in the kernel. */
const MAX_EARLY_BYTES = 65_536;

/** Time before an owner that sent a client away is looked for again, in milliseconds; twice that for each further time. */
const RETRY_MS = 50;

const MAX_RETRY_MS = 2000;

/**
 * How often it is looked whether an owner that has not spoken is the owner still, in milliseconds. One that hangs, or has lost
 * the coordinator, keeps its links, while others meet elsewhere.
 */
const OWNER_CHECK_INTERVAL_MS = 15_000;

/** What an owner's word means to its client's session. */
const EVENT_BY_REPLY: Readonly<Record<OwnerReply, SessionEvent>> = {
  ok: 'forwarded',
  impatient: 'early-bytes',
  busy: 'busy',
  'over quota': 'over-quota',
  gone: 'partner-gone',
};

/** A client whose partner may be at another relay. */
export interface ForwardableClient {
  readonly transport: ClientTransport;
  readonly state: SessionState;
  dispatch(event: SessionEvent): void;
  /** Comes to the rendezvous: it waits there then, or is paired. */
  joinRendezvous(): void;
  /** Takes what the client had said earlier. */
  onData(bytes: Uint8Array): void;
  /** The data plane between it and the owner. */
  startForwarding(link: ClientTransport): Splice;
  /** A fault in this program costs this client and no other. */
  guard(action: () => void): void;
}

/**
 * Finds out where a client meets its partner, and takes it there.
 *
 * The client waits in its own relay's rendezvous meanwhile, and nothing more of it is read: should its partner come there
 * first, that is as good. What it said behind its line is kept for whoever it will be for.
 */
export class Forwarder implements UpstreamHandler {
  readonly #client: ForwardableClient;
  readonly #router: ClusterRouter;
  readonly #token: Token;
  readonly #side: Side | null;
  #earlyData: Uint8Array = EMPTY_BYTES;
  #isPaused = false;
  #upstream: UpstreamConnection | null = null;
  #owner: Owner | null = null;
  #splice: Splice | null = null;
  #retryMs = RETRY_MS;
  #timer: NodeJS.Timeout | undefined;
  /** The last answer that is waited for. */
  #pendingLookup: Promise<Owner | null> | null = null;

  constructor(traveller: ForwardableClient, router: ClusterRouter, token: Token, side: Side | null) {
    this.#client = traveller;
    this.#router = router;
    this.#token = token;
    this.#side = side;
  }

  /** The client waits. What it said behind its line is `early`. */
  start(early: Uint8Array): void {
    this.#bufferEarlyData(early);
    this.#pauseClient();
    this.#resolveOwner();
  }

  /** Its token turned out to be another relay's, or not: null is this one. Does nothing where it does not wait any more. */
  onOwnerResolved(owner: Owner | null): void {
    this.#pendingLookup = null;
    clearTimeout(this.#timer);
    if (!this.#isInState('waiting')) return;
    if (owner === null) {
      this.flushEarlyData();
      return;
    }
    if (this.#client.transport.kind === 'link') {
      this.#client.dispatch('not-owner');
      return;
    }
    this.#owner = owner;
    this.#pauseClient();
    this.#client.dispatch('redirected');
    const call = new UpstreamConnection(this);
    this.#upstream = call;
    // Made here and not kept: most who wait are never passed on.
    call.start(this.#router, owner, formatHandshake(this.#token, this.#side));
    this.#scheduleOwnerCheck(call, owner);
  }

  /** It is known where the client belongs: it is read again, and what it said is heard. */
  flushEarlyData(): void {
    clearTimeout(this.#timer);
    if (!this.#isPaused) return;
    this.#resumeClient();
    const early = this.#earlyData;
    this.#earlyData = EMPTY_BYTES;
    if (early.length > 0) this.#client.onData(early);
  }

  /** The client speaks while it waits. False where it is known that its partner is yet to come, so that it must not. */
  tryBuffer(bytes: Uint8Array): boolean {
    if (this.#isPaused) this.#bufferEarlyData(bytes);
    return this.#isPaused;
  }

  /** The client speaks before the owner has. */
  onClientData(bytes: Uint8Array): void {
    this.#upstream?.transport?.send(bytes);
    this.#bufferEarlyData(bytes);
    if (this.#earlyData.length > MAX_EARLY_BYTES) this.#pauseClient();
  }

  /** The client speaks to its partner. */
  forward(bytes: Uint8Array): void {
    this.#splice?.forward(this.#client.transport, bytes);
  }

  /** The client has taken what was held for it. */
  onClientDrain(): void {
    this.#splice?.receiverDrained(this.#client.transport);
  }

  closeUpstream(): void {
    clearTimeout(this.#timer);
    this.#upstream?.close();
  }

  onUpstreamConnected(): void {
    this.#client.guard(() => {
      if (this.#earlyData.length > 0) this.#upstream?.transport?.send(this.#earlyData);
      this.#resumeClient();
    });
  }

  onUpstreamReply(word: OwnerReply, rest: Uint8Array): void {
    clearTimeout(this.#timer);
    this.#client.guard(() => {
      if (!this.#isInState('connecting-upstream')) return;
      const link = this.#upstream?.transport ?? null;
      if (word !== 'ok' || link === null) {
        this.#client.dispatch(EVENT_BY_REPLY[word]);
        return;
      }
      const early = this.#earlyData.length;
      this.#earlyData = EMPTY_BYTES;
      const splice = this.#client.startForwarding(link);
      this.#splice = splice;
      this.#client.dispatch('forwarded');
      this.#resumeClient();
      splice.reapplyPause();
      if (early > 0) splice.countBytes(this.#client.transport, early);
      if (rest.length > 0 && this.#isInState('forwarding')) splice.forward(link, rest);
    });
  }

  onUpstreamFailed(failure: UpstreamFailure): void {
    clearTimeout(this.#timer);
    this.#client.guard(() => {
      const owner = this.#owner;
      this.#upstream = null;
      if (!this.#isInState('connecting-upstream') || owner === null) return;
      this.#pauseClient();
      this.#client.joinRendezvous();
      if (!this.#isInState('waiting')) return;
      if (failure === 'unreachable') this.#awaitOwner(this.#router.takeOver(this.#token, owner));
      else this.#scheduleRetry();
    });
  }

  onUpstreamData(bytes: Uint8Array): void {
    const link = this.#upstream?.transport ?? null;
    if (link !== null) this.#splice?.forward(link, bytes);
  }

  onUpstreamDrain(): void {
    const link = this.#upstream?.transport ?? null;
    if (link !== null) this.#splice?.receiverDrained(link);
  }

  onUpstreamEnd(): void {
    this.#client.dispatch('partner-gone');
  }

  #isInState(state: SessionState): boolean {
    return this.#client.state === state;
  }

  #resolveOwner(): void {
    this.#awaitOwner(this.#router.resolveOwner(this.#token));
  }

  /** Calls the client home from an owner that is none any more. */
  #scheduleOwnerCheck(call: UpstreamConnection, owner: Owner): void {
    this.#timer = setTimeout(() => {
      void this.#router.isOwner(this.#token, owner).then((isOwner) => {
        if (this.#upstream !== call || !this.#isInState('connecting-upstream')) return;
        if (isOwner) {
          this.#scheduleOwnerCheck(call, owner);
          return;
        }
        this.#client.guard(() => call.close());
        this.onUpstreamFailed('moved');
      });
    }, OWNER_CHECK_INTERVAL_MS);
  }

  #scheduleRetry(): void {
    this.#timer = setTimeout(() => {
      if (this.#isInState('waiting')) this.#resolveOwner();
    }, this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
  }

  #awaitOwner(answer: Promise<Owner | null>): void {
    this.#pendingLookup = answer;
    void answer.then((owner) => {
      // What was so before the client was called away and came back is not so now.
      if (this.#pendingLookup === answer) this.#client.guard(() => this.onOwnerResolved(owner));
    });
  }

  #bufferEarlyData(bytes: Uint8Array): void {
    // The read buffer is not ours to keep.
    if (bytes.length > 0) this.#earlyData = Uint8Array.from(Buffer.concat([this.#earlyData, bytes]));
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
