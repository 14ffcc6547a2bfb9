/**
 * Places beyond the limit, for clients that are told that there is no room: it takes a moment to find out in which language. The
 * relay's own probes come in by them, too, until they have named their tokens. When all are in use, the oldest is closed.
 */
export const LANE_PLACES = 64;

/**
 * Where a newcomer stands.
 *
 * - `inside`: there is room
 * - `lane`: there is none; it may be told so
 * - `nowhere`: it is not counted
 */
export type Place = 'inside' | 'lane' | 'nowhere';

/** How many connections there may be. */
export class ConnectionLimit {
  readonly #max: number;
  #inside = 0;

  /** @param max null: as many as come */
  constructor(max: number | null) {
    this.#max = max ?? Number.POSITIVE_INFINITY;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Takes a place, which is given back with `leave`. */
  enter(): 'inside' | 'lane' {
    if (this.#inside >= this.#max) return 'lane';
    this.#inside += 1;
    return 'inside';
  }

  leave(place: Place): void {
    if (place === 'inside') this.#inside -= 1;
  }
}
