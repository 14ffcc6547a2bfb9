import { Rendezvous } from '../protocol/rendezvous.ts';
import type { Books, Connection, Ending } from './connection.ts';
import type { Splice } from './splice.ts';

/** The books on clients, or on the relay's own tests. */
export class Ledger implements Books {
  readonly rendezvous = new Rendezvous<Connection>();
  /** Each with one of its two connections. */
  readonly #splices = new Map<Splice, Connection>();
  readonly #ended: (ending: Ending) => void;
  #endedBytes = 0;

  /** @param ended told once of each connection that ended alone, and of each pair */
  constructor(ended: (ending: Ending) => void) {
    this.#ended = ended;
  }

  /** Pairs that are running. */
  get pairs(): number {
    return this.#splices.size;
  }

  /** Bytes relayed by pairs that have ended, both directions together. */
  get endedBytes(): number {
    return this.#endedBytes;
  }

  /** Bytes relayed so far by pairs that are running. */
  incompleteBytes(): number {
    let bytes = 0;
    for (const splice of this.#splices.keys()) bytes += splice.totalBytes;
    return bytes;
  }

  paired(splice: Splice, connection: Connection): void {
    this.#splices.set(splice, connection);
  }

  unpaired(splice: Splice): void {
    splice.end();
    this.#splices.delete(splice);
  }

  ended(ending: Ending): void {
    this.#endedBytes += ending.totalBytes;
    this.#ended(ending);
  }

  /** Looks for resets that stalled pairs hide. */
  sweep(): void {
    for (const splice of this.#splices.keys()) splice.sweep();
  }

  /** One connection of each pair, with the bytes that the pair has relayed so far. */
  *progress(): Generator<readonly [Connection, number]> {
    for (const [splice, connection] of this.#splices) yield [connection, splice.totalBytes];
  }
}
