import type { Mood, Reply } from './messages.ts';

/**
 * What one connection is to the relay.
 *
 * - `handshake`: its line is not whole yet
 * - `waiting`: it named a token, and nobody else has
 * - `paired`: its bytes go to its partner
 * - `calling`: another relay owns its token, and is asked
 * - `carried`: its bytes go to that relay, which has paired it, and knows all else of it
 * - `closing`: it is sent what it has coming, then a FIN; what it still says is thrown away
 * - `closed`: it is gone
 */
export type SessionState = 'handshake' | 'waiting' | 'paired' | 'calling' | 'carried' | 'closing' | 'closed';

/**
 * What can happen to a connection.
 *
 * - `waits`, `matched`: the rendezvous answered its handshake; `matched` reaches both of a pair
 * - `called-away`: another relay owns its token; `carried`: that one has paired it
 * - `elsewhere`: it came over a link, and the token is not ours, or the relay stops
 * - `bad-line`, `overlong-line`: its line is no handshake
 * - `early-bytes`: it sent more before it had a partner
 * - `text`: a WebSocket text message
 * - `superseded`: another connection of its token was matched
 * - `partner-gone`: its partner ended
 * - `left`: it will send nothing more (a FIN); it may still receive
 * - `lost`: it is gone for good (a reset, or everything is delivered and both ends have closed)
 * - `timed-out`: it has taken too long for the state it is in
 * - `busy`: there is no room for it
 * - `over-quota`: the relay may move no more bytes in this period
 * - `stopping`: it comes when the relay stops, and is nobody's partner
 * - `used-up`: its pair has moved all that it may
 * - `shutdown`: the relay stops; only pairs go on
 * - `evicted`: it waits, and its place is given to a client from another network
 * - `cut`: the relay stops now, or the connection is evicted before or after it waited
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
  | 'left'
  | 'lost'
  | 'timed-out'
  | Rejection
  | 'called-away'
  | 'carried'
  | 'elsewhere'
  | 'used-up'
  | 'shutdown'
  | 'evicted'
  | 'cut';

/** Why a client that names a token is not let in. */
export type Rejection = 'busy' | 'over-quota' | 'stopping';

/**
 * WebSocket close codes the relay uses: normal, unsupported data (RFC 6455, 7.4.1), try again later (IANA's registry).
 */
export type CloseCode = 1000 | 1003 | 1013;

/**
 * What the shell does, in this order.
 *
 * - `reply`: say the word
 * - `leave`: take it out of the rendezvous
 * - `finish`: deliver what was sent to it, then close; a WebSocket with this code
 * - `drop`: close at once
 * - `end-partner`: its partner gets `partner-gone`
 * - `hang-up`: end the link to the owner, behind what it has coming
 * - `record`: write the usage record; of a pair, with the bytes of both directions
 */
export type SessionEffect =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'leave' }
  | { readonly kind: 'finish'; readonly code: CloseCode }
  | { readonly kind: 'drop' }
  | { readonly kind: 'end-partner' }
  | { readonly kind: 'hang-up' }
  | { readonly kind: 'record'; readonly mood: Mood };

export interface Transition {
  readonly next: SessionState;
  readonly effects: readonly SessionEffect[];
}

const sendReply = (reply: Reply): SessionEffect => ({ kind: 'reply', reply });
const closeGracefully = (code: CloseCode = 1000): SessionEffect => ({ kind: 'finish', code });
const record = (mood: Mood): SessionEffect => ({ kind: 'record', mood });
const leaveRendezvous: SessionEffect = { kind: 'leave' };
const abort: SessionEffect = { kind: 'drop' };
const endPartner: SessionEffect = { kind: 'end-partner' };
const closeUpstream: SessionEffect = { kind: 'hang-up' };

const moveTo = (next: SessionState, ...effects: SessionEffect[]): Transition => ({ next, effects });
const stay = (state: SessionState): Transition => moveTo(state);
/** Cannot happen: the event's sender would have to be wrong about the state. */
const never = null;

/**
 * Every state × event. A record is written on the one transition that ends the connection's story: into
 * `closing` or `closed`, and for a pair by the side that ends it, so that a pair has one record. Whoever is refused has
 * none, and whoever is passed on to another relay has it there.
 */
export const TRANSITIONS: Readonly<Record<SessionState, Readonly<Record<SessionEvent, Transition | null>>>> =
  {
    handshake: {
      waits: moveTo('waiting'),
      matched: moveTo('paired', sendReply('ok')),
      'bad-line': moveTo('closing', sendReply('bad handshake'), closeGracefully(), record('errory')),
      'overlong-line': moveTo('closing', closeGracefully(), record('empty')),
      'early-bytes': never,
      text: moveTo('closing', closeGracefully(1003), record('empty')),
      superseded: never,
      'partner-gone': never,
      left: moveTo('closing', closeGracefully(), record('empty')),
      lost: moveTo('closed', record('empty')),
      'timed-out': moveTo('closing', closeGracefully(), record('empty')),
      busy: moveTo('closing', sendReply('busy'), closeGracefully(1013)),
      'over-quota': moveTo('closing', sendReply('over quota'), closeGracefully(1013)),
      stopping: moveTo('closing', sendReply('shutting down'), closeGracefully(1013)),
      'called-away': never,
      carried: never,
      elsewhere: never,
      'used-up': never,
      shutdown: moveTo('closing', sendReply('shutting down'), closeGracefully(1013), record('empty')),
      evicted: never,
      cut: moveTo('closed', abort, record('empty')),
    },
    waiting: {
      waits: never,
      matched: moveTo('paired', sendReply('ok')),
      'bad-line': never,
      'overlong-line': never,
      'early-bytes': moveTo(
        'closing',
        leaveRendezvous,
        sendReply('impatient'),
        closeGracefully(),
        record('impatient'),
      ),
      text: moveTo('closing', leaveRendezvous, closeGracefully(1003), record('impatient')),
      superseded: moveTo('closing', closeGracefully(), record('redundant')),
      'partner-gone': never,
      left: moveTo('closing', leaveRendezvous, closeGracefully(), record('lonely')),
      lost: moveTo('closed', leaveRendezvous, record('lonely')),
      'timed-out': moveTo('closing', leaveRendezvous, closeGracefully(), record('lonely')),
      busy: never,
      'over-quota': moveTo(
        'closing',
        leaveRendezvous,
        sendReply('over quota'),
        closeGracefully(1013),
        record('lonely'),
      ),
      stopping: never,
      'called-away': moveTo('calling', leaveRendezvous),
      carried: never,
      elsewhere: moveTo('closing', leaveRendezvous, sendReply('elsewhere'), closeGracefully()),
      'used-up': never,
      shutdown: moveTo(
        'closing',
        leaveRendezvous,
        sendReply('shutting down'),
        closeGracefully(1013),
        record('lonely'),
      ),
      // At once, without waiting for the client to close: it may be one of very many.
      evicted: moveTo(
        'closed',
        leaveRendezvous,
        sendReply('busy'),
        closeGracefully(1013),
        abort,
        record('lonely'),
      ),
      cut: moveTo('closed', leaveRendezvous, abort, record('lonely')),
    },
    paired: {
      waits: never,
      matched: never,
      'bad-line': never,
      'overlong-line': never,
      'early-bytes': never,
      text: moveTo('closing', closeGracefully(1003), endPartner, record('happy')),
      superseded: never,
      'partner-gone': moveTo('closing', closeGracefully()),
      left: moveTo('closing', closeGracefully(), endPartner, record('happy')),
      lost: moveTo('closed', endPartner, record('happy')),
      'timed-out': moveTo('closing', closeGracefully(), endPartner, record('happy')),
      busy: never,
      'over-quota': never,
      stopping: never,
      'called-away': never,
      carried: never,
      elsewhere: never,
      'used-up': moveTo('closing', closeGracefully(), endPartner, record('happy')),
      shutdown: stay('paired'),
      evicted: never,
      cut: moveTo('closed', abort, endPartner, record('happy')),
    },
    calling: {
      waits: moveTo('waiting'),
      matched: moveTo('paired', sendReply('ok')),
      'bad-line': never,
      'overlong-line': never,
      // The owner has said so; it has the record.
      'early-bytes': moveTo('closing', sendReply('impatient'), closeGracefully()),
      text: moveTo('closing', closeUpstream, closeGracefully(1003)),
      superseded: never,
      // The owner is done with it, without a word.
      'partner-gone': moveTo('closing', closeGracefully()),
      left: moveTo('closing', closeUpstream, closeGracefully()),
      lost: moveTo('closed', closeUpstream),
      'timed-out': never,
      // Two words of the owner's.
      busy: moveTo('closing', closeUpstream, sendReply('busy'), closeGracefully(1013)),
      'over-quota': moveTo('closing', closeUpstream, sendReply('over quota'), closeGracefully(1013)),
      stopping: never,
      'called-away': never,
      carried: moveTo('carried', sendReply('ok')),
      elsewhere: never,
      'used-up': never,
      shutdown: moveTo('closing', closeUpstream, sendReply('shutting down'), closeGracefully(1013)),
      evicted: never,
      cut: moveTo('closed', closeUpstream, abort),
    },
    carried: {
      waits: never,
      matched: never,
      'bad-line': never,
      'overlong-line': never,
      'early-bytes': never,
      text: moveTo('closing', closeUpstream, closeGracefully(1003)),
      superseded: never,
      'partner-gone': moveTo('closing', closeGracefully()),
      left: moveTo('closing', closeUpstream, closeGracefully()),
      lost: moveTo('closed', closeUpstream),
      'timed-out': never,
      busy: never,
      'over-quota': never,
      stopping: never,
      'called-away': never,
      carried: never,
      elsewhere: never,
      'used-up': moveTo('closing', closeUpstream, closeGracefully()),
      shutdown: stay('carried'),
      evicted: never,
      cut: moveTo('closed', closeUpstream, abort),
    },
    closing: {
      waits: never,
      matched: never,
      'bad-line': never,
      'overlong-line': never,
      'early-bytes': never,
      text: stay('closing'),
      superseded: never,
      'partner-gone': stay('closing'),
      left: stay('closing'),
      lost: moveTo('closed'),
      'timed-out': stay('closing'),
      busy: never,
      'over-quota': never,
      stopping: never,
      'called-away': never,
      carried: never,
      elsewhere: never,
      'used-up': never,
      shutdown: stay('closing'),
      evicted: never,
      cut: moveTo('closed', abort),
    },
    closed: {
      waits: never,
      matched: never,
      'bad-line': never,
      'overlong-line': never,
      'early-bytes': never,
      text: stay('closed'),
      superseded: never,
      'partner-gone': stay('closed'),
      left: stay('closed'),
      lost: stay('closed'),
      'timed-out': stay('closed'),
      busy: never,
      'over-quota': never,
      stopping: never,
      'called-away': never,
      carried: never,
      elsewhere: never,
      'used-up': never,
      shutdown: stay('closed'),
      evicted: never,
      cut: stay('closed'),
    },
  };

/** Looks up what `event` means in `state`. Throws where the table says that it cannot happen. */
export function transition(state: SessionState, event: SessionEvent): Transition {
  const found = TRANSITIONS[state][event];
  if (found === never) throw new Error(`session: "${event}" cannot happen in state "${state}"`);
  return found;
}
