/** Blocks callers of `pass` while it is shut. */
export class Gate {
  #shut: Promise<void> | null = null;

  /** Resolves when it is open. */
  async pass(): Promise<void> {
    while (this.#shut !== null) await this.#shut;
  }

  /** Shuts the gate. Returns a function that opens it. */
  shut(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#shut = promise;
    return () => {
      this.#shut = null;
      resolve();
    };
  }
}
