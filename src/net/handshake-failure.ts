import type { Event, State } from '../protocol/session.ts';

/**
 * How a client failed to become one that waits or is paired.
 *
 * - `left`: it went before it had said its line
 * - `timeout`: it had not said its line in time
 * - `bad_line`, `overlong_line`: its line is no handshake
 * - `early_bytes`: it sent more before it had a partner
 * - `text`: its line came as a WebSocket text message
 * - `http`: it spoke HTTP, and did not become a WebSocket client; a browser, say
 * - `tls`: it never came to speak inside of TLS
 */
export type HandshakeFailure =
  'left' | 'timeout' | 'bad_line' | 'overlong_line' | 'early_bytes' | 'text' | 'http' | 'tls';

/** Events that end a handshake without a result. */
const FAILURES: Readonly<Partial<Record<Event, HandshakeFailure>>> = {
  'bad-line': 'bad_line',
  'overlong-line': 'overlong_line',
  text: 'text',
  left: 'left',
  lost: 'left',
  'timed-out': 'timeout',
};

/**
 * How a client failed that leaves a state by an event; null where it did not.
 *
 * @param isInTls it has not come to speak inside of TLS
 */
export function failureOf(before: State, event: Event, isInTls: boolean): HandshakeFailure | null {
  if (before === 'waiting') return event === 'early-bytes' || event === 'text' ? 'early_bytes' : null;
  const failure = before === 'handshake' ? (FAILURES[event] ?? null) : null;
  // Whoever does not get through TLS leaves as a raw client.
  return failure === 'left' && isInTls ? 'tls' : failure;
}
