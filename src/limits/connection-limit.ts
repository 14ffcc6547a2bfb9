/**
 * Places beyond the limit for those who are told that there is no room: it takes a moment to find out in which language.
 */
export const LANE_PLACES = 64;

/** Places in the lane that only clients from this machine get, so that the relay can go on testing itself. */
const LOCAL_LANE_PLACES = 16;

/**
 * Where a newcomer stands.
 *
 * - `inside`: there is room
 * - `lane`: there is none; it may be told so
 * - `nowhere`: there is no place left even for that
 */
export type Place = 'inside' | 'lane' | 'nowhere';

/** How many connections there may be. */
export class ConnectionLimit {
  readonly #max: number;
  #inside = 0;
  #lane = 0;

  /** @param max null: as many as come */
  constructor(max: number | null) {
    this.#max = max ?? Number.POSITIVE_INFINITY;
  }

  get inside(): number {
    return this.#inside;
  }

  /** Takes a place, which is given back with `leave` unless it is `nowhere`. `isLocal` is asked only where it matters. */
  enter(isLocal: () => boolean): Place {
    if (this.#inside < this.#max) {
      this.#inside += 1;
      return 'inside';
    }
    return this.enterLane(isLocal);
  }

  /** The same for somebody who is not let in, whatever room there is. */
  enterLane(isLocal: () => boolean): 'lane' | 'nowhere' {
    const isFree = this.#lane < LANE_PLACES - LOCAL_LANE_PLACES || (this.#lane < LANE_PLACES && isLocal());
    if (!isFree) return 'nowhere';
    this.#lane += 1;
    return 'lane';
  }

  leave(place: Place): void {
    if (place === 'inside') this.#inside -= 1;
    else if (place === 'lane') this.#lane -= 1;
  }
}
