/** Lets so many calls at a time go to each relay; the others wait for their turn. */
export class PeerConcurrency {
  readonly #limit: number;
  readonly #isFatal: (error: unknown) => boolean;
  readonly #peers = new Map<string, { running: number; readonly waiting: PromiseWithResolvers<void>[] }>();

  /** @param isHopeless whether who waits for the same relay need not try, and fails with the same error */
  constructor(most: number, isHopeless: (error: unknown) => boolean) {
    this.#limit = most;
    this.#isFatal = isHopeless;
  }

  async run<T>(address: string, call: () => Promise<T>): Promise<T> {
    const lane = this.#peers.get(address) ?? { running: 0, waiting: [] };
    this.#peers.set(address, lane);
    if (lane.running < this.#limit) {
      lane.running += 1;
    } else {
      // Whoever is done hands its place on.
      const turn = Promise.withResolvers<void>();
      lane.waiting.push(turn);
      await turn.promise;
    }
    try {
      return await call();
    } catch (error) {
      if (this.#isFatal(error)) for (const turn of lane.waiting.splice(0)) turn.reject(error);
      throw error;
    } finally {
      const next = lane.waiting.shift();
      if (next === undefined) lane.running -= 1;
      else next.resolve();
      if (lane.running === 0) this.#peers.delete(address);
    }
  }
}
