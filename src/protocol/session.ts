import type { Mood, Reply } from './wire.ts';

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
export type State = 'handshake' | 'waiting' | 'paired' | 'calling' | 'carried' | 'closing' | 'closed';

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
export type Event =
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
  | Refused
  | 'called-away'
  | 'carried'
  | 'elsewhere'
  | 'used-up'
  | 'shutdown'
  | 'evicted'
  | 'cut';

/** Why a client that names a token is not let in. */
export type Refused = 'busy' | 'over-quota' | 'stopping';

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
export type Effect =
  | { readonly kind: 'reply'; readonly reply: Reply }
  | { readonly kind: 'leave' }
  | { readonly kind: 'finish'; readonly code: CloseCode }
  | { readonly kind: 'drop' }
  | { readonly kind: 'end-partner' }
  | { readonly kind: 'hang-up' }
  | { readonly kind: 'record'; readonly mood: Mood };

export interface Transition {
  readonly next: State;
  readonly effects: readonly Effect[];
}

const say = (reply: Reply): Effect => ({ kind: 'reply', reply });
const finish = (code: CloseCode = 1000): Effect => ({ kind: 'finish', code });
const record = (mood: Mood): Effect => ({ kind: 'record', mood });
const leave: Effect = { kind: 'leave' };
const drop: Effect = { kind: 'drop' };
const endPartner: Effect = { kind: 'end-partner' };
const hangUp: Effect = { kind: 'hang-up' };

const go = (next: State, ...effects: Effect[]): Transition => ({ next, effects });
const stay = (state: State): Transition => go(state);
/** Cannot happen: the event's sender would have to be wrong about the state. */
const never = null;

/**
 * Every state × event. A record is written on the one transition that ends the connection's story: into
 * `closing` or `closed`, and for a pair by the side that ends it, so that a pair has one record. Whoever is refused has
 * none, and whoever is passed on to another relay has it there.
 */
export const TABLE: Readonly<Record<State, Readonly<Record<Event, Transition | null>>>> = {
  handshake: {
    waits: go('waiting'),
    matched: go('paired', say('ok')),
    'bad-line': go('closing', say('bad handshake'), finish(), record('errory')),
    'overlong-line': go('closing', finish(), record('empty')),
    'early-bytes': never,
    text: go('closing', finish(1003), record('empty')),
    superseded: never,
    'partner-gone': never,
    left: go('closing', finish(), record('empty')),
    lost: go('closed', record('empty')),
    'timed-out': go('closing', finish(), record('empty')),
    busy: go('closing', say('busy'), finish(1013)),
    'over-quota': go('closing', say('over quota'), finish(1013)),
    stopping: go('closing', say('shutting down'), finish(1013)),
    'called-away': never,
    carried: never,
    elsewhere: never,
    'used-up': never,
    shutdown: go('closing', say('shutting down'), finish(1013), record('empty')),
    evicted: never,
    cut: go('closed', drop, record('empty')),
  },
  waiting: {
    waits: never,
    matched: go('paired', say('ok')),
    'bad-line': never,
    'overlong-line': never,
    'early-bytes': go('closing', leave, say('impatient'), finish(), record('impatient')),
    text: go('closing', leave, finish(1003), record('impatient')),
    superseded: go('closing', finish(), record('redundant')),
    'partner-gone': never,
    left: go('closing', leave, finish(), record('lonely')),
    lost: go('closed', leave, record('lonely')),
    'timed-out': go('closing', leave, finish(), record('lonely')),
    busy: never,
    'over-quota': go('closing', leave, say('over quota'), finish(1013), record('lonely')),
    stopping: never,
    'called-away': go('calling', leave),
    carried: never,
    elsewhere: go('closing', leave, say('elsewhere'), finish()),
    'used-up': never,
    shutdown: go('closing', leave, say('shutting down'), finish(1013), record('lonely')),
    // At once, without waiting for the client to close: it may be one of very many.
    evicted: go('closed', leave, say('busy'), finish(1013), drop, record('lonely')),
    cut: go('closed', leave, drop, record('lonely')),
  },
  paired: {
    waits: never,
    matched: never,
    'bad-line': never,
    'overlong-line': never,
    'early-bytes': never,
    text: go('closing', finish(1003), endPartner, record('happy')),
    superseded: never,
    'partner-gone': go('closing', finish()),
    left: go('closing', finish(), endPartner, record('happy')),
    lost: go('closed', endPartner, record('happy')),
    'timed-out': go('closing', finish(), endPartner, record('happy')),
    busy: never,
    'over-quota': never,
    stopping: never,
    'called-away': never,
    carried: never,
    elsewhere: never,
    'used-up': go('closing', finish(), endPartner, record('happy')),
    shutdown: stay('paired'),
    evicted: never,
    cut: go('closed', drop, endPartner, record('happy')),
  },
  calling: {
    waits: go('waiting'),
    matched: go('paired', say('ok')),
    'bad-line': never,
    'overlong-line': never,
    // The owner has said so; it has the record.
    'early-bytes': go('closing', say('impatient'), finish()),
    text: go('closing', hangUp, finish(1003)),
    superseded: never,
    // The owner is done with it, without a word.
    'partner-gone': go('closing', finish()),
    left: go('closing', hangUp, finish()),
    lost: go('closed', hangUp),
    'timed-out': never,
    // Two words of the owner's.
    busy: go('closing', hangUp, say('busy'), finish(1013)),
    'over-quota': go('closing', hangUp, say('over quota'), finish(1013)),
    stopping: never,
    'called-away': never,
    carried: go('carried', say('ok')),
    elsewhere: never,
    'used-up': never,
    shutdown: go('closing', hangUp, say('shutting down'), finish(1013)),
    evicted: never,
    cut: go('closed', hangUp, drop),
  },
  carried: {
    waits: never,
    matched: never,
    'bad-line': never,
    'overlong-line': never,
    'early-bytes': never,
    text: go('closing', hangUp, finish(1003)),
    superseded: never,
    'partner-gone': go('closing', finish()),
    left: go('closing', hangUp, finish()),
    lost: go('closed', hangUp),
    'timed-out': never,
    busy: never,
    'over-quota': never,
    stopping: never,
    'called-away': never,
    carried: never,
    elsewhere: never,
    'used-up': go('closing', hangUp, finish()),
    shutdown: stay('carried'),
    evicted: never,
    cut: go('closed', hangUp, drop),
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
    lost: go('closed'),
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
    cut: go('closed', drop),
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
export function transition(state: State, event: Event): Transition {
  const found = TABLE[state][event];
  if (found === never) throw new Error(`session: "${event}" cannot happen in state "${state}"`);
  return found;
}
