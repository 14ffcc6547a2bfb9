import type { Mood, Reply } from './messages.ts';

/**
 * The state of one client session.
 *
 * - `handshake`: its handshake line is not complete
 * - `waiting`: it has named a token and waits for a partner
 * - `paired`: its bytes go to its partner
 * - `connecting-upstream`: another relay owns its token and has not replied yet
 * - `forwarding`: its bytes go to the owner relay, which has paired it and keeps its record
 * - `closing`: it still gets what was sent to it, then a FIN; its further bytes are discarded
 * - `closed`: its connection is gone
 */
export type SessionState =
  'handshake' | 'waiting' | 'paired' | 'connecting-upstream' | 'forwarding' | 'closing' | 'closed';

/**
 * What can happen to a session.
 *
 * - `waits`, `matched`: the result of joining the rendezvous; both of a pair get `matched`
 * - `redirected`: another relay owns its token
 * - `forwarded`: the owner relay has paired it
 * - `not-owner`: it came over a cluster link, and this relay does not own its token, or drains
 * - `bad-line`, `overlong-line`: its line is not a handshake
 * - `early-bytes`: it sent more before it had a partner
 * - `text`: it sent a WebSocket text message
 * - `superseded`: another connection of its token was matched
 * - `partner-gone`: its partner has closed
 * - `stalled`: it is stalled, and the kernel's buffers of stalled connections use up the memory
 * - `partner-reset`: its partner was reset for that reason
 * - `end`: it will send nothing more (a FIN); it may still receive
 * - `close`: its connection is gone (a reset, or both ends have closed and everything is delivered)
 * - `timed-out`: it stayed in its state for too long
 * - `busy`: there is no capacity for it
 * - `over-quota`: the relay may forward no more bytes in this period
 * - `draining`: it arrived while the relay drains, and no partner waits for it
 * - `byte-limit`: its pair has forwarded as many bytes as a pair may
 * - `drain`: the relay begins to drain; only pairs continue
 * - `evicted`: it waits, and a client from another network takes its slot
 * - `aborted`: the relay stops now, or the connection is evicted before or after it waited
 */
export type SessionEvent =
  | 'waits'
  | 'matched'
  | 'bad-line'
  | 'overlong-line'
  | 'early-bytes'
  | 'text'
  | 'superseded'
  | 'partner-gone'
  | 'stalled'
  | 'partner-reset'
  | 'end'
  | 'close'
  | 'timed-out'
  | Rejection
  | 'redirected'
  | 'forwarded'
  | 'not-owner'
  | 'byte-limit'
  | 'drain'
  | 'evicted'
  | 'aborted';

/** Why a client that has named a token is rejected. */
export type Rejection = 'busy' | 'over-quota' | 'draining';

/**
 * How a client failed to wait or to be paired.
 *
 * - `disconnected`: it closed before its handshake line was complete
 * - `timeout`: its line was not complete in time
 * - `bad_line`, `overlong_line`: its line is not a handshake
 * - `early_bytes`: it sent more before it had a partner
 * - `text`: its handshake came as a WebSocket text message
 */
export type SessionFailure =
  'disconnected' | 'timeout' | 'bad_line' | 'overlong_line' | 'early_bytes' | 'text';

/**
 * WebSocket close codes of the relay: normal, unsupported data (RFC 6455, 7.4.1), try again later (IANA
 * registry).
 */
export type CloseCode = 1000 | 1003 | 1013;

/**
 * What the shell does, in this order.
 *
 * - `reply`: send this reply
 * - `leave-rendezvous`: remove it from the rendezvous
 * - `close-gracefully`: deliver what was sent to it, then close; a WebSocket with this code
 * - `abort`: close at once
 * - `reset`: close at once, and free the kernel's buffers
 * - `close-partner`: its partner gets `partner-gone`
 * - `reset-partner`: its partner gets `partner-reset`
 * - `close-upstream`: close the link to the owner relay, after everything sent there has been delivered
 * - `reset-upstream`: close that link at once, and free the kernel's buffers
 * - `record`: write the usage record; that of a pair has the bytes of both directions
 * - `count-forwarded`: count it as a client that was forwarded; the owner relay writes its record
 * - `count-failure`: count a failed handshake
 */
export type SessionEffect =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'leave-rendezvous' }
  | { readonly kind: 'close-gracefully'; readonly code: CloseCode }
  | { readonly kind: 'abort' }
  | { readonly kind: 'reset' }
  | { readonly kind: 'close-partner' }
  | { readonly kind: 'reset-partner' }
  | { readonly kind: 'close-upstream' }
  | { readonly kind: 'reset-upstream' }
  | { readonly kind: 'record'; readonly mood: Mood }
  | { readonly kind: 'count-forwarded' }
  | { readonly kind: 'count-failure'; readonly failure: SessionFailure };

export interface Transition {
  readonly next: SessionState;
  readonly effects: readonly SessionEffect[];
}

const sendReply = (reply: Reply): SessionEffect => ({ kind: 'reply', reply });
const closeGracefully = (code: CloseCode = 1000): SessionEffect => ({ kind: 'close-gracefully', code });
const record = (mood: Mood): SessionEffect => ({ kind: 'record', mood });
const fail = (failure: SessionFailure): SessionEffect => ({ kind: 'count-failure', failure });
const leaveRendezvous: SessionEffect = { kind: 'leave-rendezvous' };
const abort: SessionEffect = { kind: 'abort' };
const reset: SessionEffect = { kind: 'reset' };
const closePartner: SessionEffect = { kind: 'close-partner' };
const resetPartner: SessionEffect = { kind: 'reset-partner' };
const closeUpstream: SessionEffect = { kind: 'close-upstream' };
const resetUpstream: SessionEffect = { kind: 'reset-upstream' };
const forwarded: SessionEffect = { kind: 'count-forwarded' };

const moveTo = (next: SessionState, ...effects: SessionEffect[]): Transition => ({ next, effects });

/**
 * These may still arrive from the client, its partner or the relay after the session has ended, and change
 * nothing.
 */
const ignoredIn = (state: 'closing' | 'closed') => ({
  text: moveTo(state),
  'partner-gone': moveTo(state),
  end: moveTo(state),
  'timed-out': moveTo(state),
  drain: moveTo(state),
});

/**
 * The legal transitions. An event that is not listed for a state is a defect in the program.
 *
 * Each session ends in exactly one of three ways, on its transition to `closing` or `closed`:
 *
 * - It has a usage record. A pair has one record, written by the side that ends it.
 * - It was rejected and has no record.
 * - It was forwarded, and the owner relay has the record.
 */
export const TRANSITIONS: Readonly<
  Record<SessionState, Readonly<Partial<Record<SessionEvent, Transition>>>>
> = {
  handshake: {
    waits: moveTo('waiting'),
    matched: moveTo('paired', sendReply('ok')),
    'bad-line': moveTo(
      'closing',
      sendReply('bad handshake'),
      closeGracefully(),
      record('errory'),
      fail('bad_line'),
    ),
    'overlong-line': moveTo('closing', closeGracefully(), record('empty'), fail('overlong_line')),
    text: moveTo('closing', closeGracefully(1003), record('empty'), fail('text')),
    end: moveTo('closing', closeGracefully(), record('empty'), fail('disconnected')),
    close: moveTo('closed', record('empty'), fail('disconnected')),
    'timed-out': moveTo('closing', closeGracefully(), record('empty'), fail('timeout')),
    busy: moveTo('closing', sendReply('busy'), closeGracefully(1013)),
    'over-quota': moveTo('closing', sendReply('over quota'), closeGracefully(1013)),
    draining: moveTo('closing', sendReply('shutting down'), closeGracefully(1013)),
    drain: moveTo('closing', sendReply('shutting down'), closeGracefully(1013), record('empty')),
    aborted: moveTo('closed', abort, record('empty')),
  },
  waiting: {
    matched: moveTo('paired', sendReply('ok')),
    'early-bytes': moveTo(
      'closing',
      leaveRendezvous,
      sendReply('impatient'),
      closeGracefully(),
      record('impatient'),
      fail('early_bytes'),
    ),
    text: moveTo('closing', leaveRendezvous, closeGracefully(1003), record('impatient'), fail('early_bytes')),
    superseded: moveTo('closing', closeGracefully(), record('redundant')),
    end: moveTo('closing', leaveRendezvous, closeGracefully(), record('lonely')),
    close: moveTo('closed', leaveRendezvous, record('lonely')),
    'timed-out': moveTo('closing', leaveRendezvous, closeGracefully(), record('lonely')),
    'over-quota': moveTo(
      'closing',
      leaveRendezvous,
      sendReply('over quota'),
      closeGracefully(1013),
      record('lonely'),
    ),
    redirected: moveTo('connecting-upstream', leaveRendezvous),
    'not-owner': moveTo('closing', leaveRendezvous, sendReply('elsewhere'), closeGracefully(), forwarded),
    drain: moveTo(
      'closing',
      leaveRendezvous,
      sendReply('shutting down'),
      closeGracefully(1013),
      record('lonely'),
    ),
    // At once, without waiting for the client to close: very many clients may be evicted at the same time.
    evicted: moveTo(
      'closed',
      leaveRendezvous,
      sendReply('busy'),
      closeGracefully(1013),
      abort,
      record('lonely'),
    ),
    aborted: moveTo('closed', leaveRendezvous, abort, record('lonely')),
  },
  paired: {
    text: moveTo('closing', closeGracefully(1003), closePartner, record('happy')),
    'partner-gone': moveTo('closing', closeGracefully()),
    end: moveTo('closing', closeGracefully(), closePartner, record('happy')),
    close: moveTo('closed', closePartner, record('happy')),
    'timed-out': moveTo('closing', closeGracefully(), closePartner, record('happy')),
    'byte-limit': moveTo('closing', closeGracefully(), closePartner, record('happy')),
    stalled: moveTo('closed', reset, resetPartner, record('happy')),
    'partner-reset': moveTo('closed', reset),
    drain: moveTo('paired'),
    aborted: moveTo('closed', abort, closePartner, record('happy')),
  },
  'connecting-upstream': {
    waits: moveTo('waiting'),
    matched: moveTo('paired', sendReply('ok')),
    // The owner relay has closed the link with this reply.
    'early-bytes': moveTo('closing', sendReply('impatient'), closeGracefully(), forwarded),
    text: moveTo('closing', closeUpstream, closeGracefully(1003), forwarded),
    // The owner relay has closed the link without a reply.
    'partner-gone': moveTo('closing', closeGracefully(), forwarded),
    end: moveTo('closing', closeUpstream, closeGracefully(), forwarded),
    close: moveTo('closed', closeUpstream, forwarded),
    // `busy` and `over-quota` are replies of the owner relay.
    busy: moveTo('closing', closeUpstream, sendReply('busy'), closeGracefully(1013), forwarded),
    'over-quota': moveTo('closing', closeUpstream, sendReply('over quota'), closeGracefully(1013), forwarded),
    forwarded: moveTo('forwarding', sendReply('ok')),
    drain: moveTo('closing', closeUpstream, sendReply('shutting down'), closeGracefully(1013), forwarded),
    aborted: moveTo('closed', closeUpstream, abort, forwarded),
  },
  forwarding: {
    text: moveTo('closing', closeUpstream, closeGracefully(1003), forwarded),
    'partner-gone': moveTo('closing', closeGracefully(), forwarded),
    end: moveTo('closing', closeUpstream, closeGracefully(), forwarded),
    close: moveTo('closed', closeUpstream, forwarded),
    'byte-limit': moveTo('closing', closeUpstream, closeGracefully(), forwarded),
    stalled: moveTo('closed', resetUpstream, reset, forwarded),
    drain: moveTo('forwarding'),
    aborted: moveTo('closed', closeUpstream, abort, forwarded),
  },
  closing: {
    ...ignoredIn('closing'),
    close: moveTo('closed'),
    stalled: moveTo('closed', reset),
    aborted: moveTo('closed', abort),
  },
  closed: {
    ...ignoredIn('closed'),
    close: moveTo('closed'),
    aborted: moveTo('closed'),
  },
};

/** Returns what `event` does in `state`. Throws if the event is not legal there. */
export function transition(state: SessionState, event: SessionEvent): Transition {
  const found = TRANSITIONS[state][event];
  if (found === undefined) throw new Error(`session: illegal event "${event}" in state "${state}"`);
  return found;
}
