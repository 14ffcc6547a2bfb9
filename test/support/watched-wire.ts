import type { Socket } from 'node:net';
import type { Ends, KeepAlive, Wire, WireHandler } from '../../src/net/wire.ts';

/** A wire that is in a set until it is closed. */
export class WatchedWire implements Wire {
  readonly #wire: Wire;
  readonly #open: Set<Wire>;
  #isStarted = false;

  constructor(wire: Wire, open: Set<Wire>) {
    this.#wire = wire;
    this.#open = open;
    open.add(this);
  }

  get kind(): Wire['kind'] {
    return this.#wire.kind;
  }

  get heldBytes(): number {
    return this.#wire.heldBytes;
  }

  get deliveredBytes(): number {
    return this.#wire.deliveredBytes;
  }

  get ends(): Ends | null {
    return this.#wire.ends;
  }

  start(handler: WireHandler): void {
    this.#isStarted = true;
    this.#wire.start({
      onBytes: (bytes) => handler.onBytes(bytes),
      onDrain: () => handler.onDrain(),
      onEnd: () => handler.onEnd(),
      onLost: () => {
        this.#open.delete(this);
        handler.onLost();
      },
    });
  }

  detach(): Socket {
    return this.#wire.detach();
  }

  write(bytes: Uint8Array): boolean {
    return this.#wire.write(bytes);
  }

  writeParts(parts: readonly Uint8Array[]): boolean {
    return this.#wire.writeParts(parts);
  }

  pause(): void {
    this.#wire.pause();
  }

  resume(): void {
    this.#wire.resume();
  }

  readLess(): void {
    this.#wire.readLess();
  }

  probe(): void {
    this.#wire.probe();
  }

  keepAlive(settings: KeepAlive): void {
    this.#wire.keepAlive(settings);
  }

  end(): void {
    this.#wire.end();
  }

  destroy(): void {
    // Nobody would be told.
    if (!this.#isStarted) this.#open.delete(this);
    this.#wire.destroy();
  }
}
