/** Limits the concurrent connection attempts to each relay. The others wait in a queue. */
export class PeerConcurrency {
  readonly #limit: number;
  readonly #isFatal: (error: unknown) => boolean;
  readonly #peers = new Map<string, { running: number; readonly waiting: PromiseWithResolvers<void>[] }>();

  /** @param isFatal whether all queued attempts to the same relay fail with this error too */
  constructor(limit: number, isFatal: (error: unknown) => boolean) {
    this.#limit = limit;
    this.#isFatal = isFatal;
  }

  async run<T>(address: string, connect: () => Promise<T>): Promise<T> {
    const peer = this.#peers.get(address) ?? { running: 0, waiting: [] };
    this.#peers.set(address, peer);
    if (peer.running < this.#limit) {
      peer.running += 1;
    } else {
      // A finished attempt passes its slot on.
      const turn = Promise.withResolvers<void>();
      peer.waiting.push(turn);
      await turn.promise;
    }
    try {
      return await connect();
    } catch (error) {
      if (this.#isFatal(error)) for (const turn of peer.waiting.splice(0)) turn.reject(error);
      throw error;
    } finally {
      const next = peer.waiting.shift();
      if (next === undefined) peer.running -= 1;
      else next.resolve();
      if (peer.running === 0) this.#peers.delete(address);
    }
  }
}
