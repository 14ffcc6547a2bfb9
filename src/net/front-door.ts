import { createServer } from 'node:net';
import type { Server } from 'node:net';
import type { Arrival, Source } from './arrival.ts';
import type { DataPlane } from './data-plane.ts';
import { Entrance, turnAway } from './entrance.ts';
import type { Rooms } from './entrance.ts';
import type { Wire } from './wire.ts';

export interface FrontDoor {
  readonly kind: Wire['kind'];
  readonly plane: DataPlane;
  readonly rooms: Rooms;
  /** Takes in a connection; null when there is no place for it. */
  readonly arrive: (source: Source) => Arrival | null;
}

/** A server through which clients of every kind come in. */
export function createFrontDoor({ kind, plane, rooms, arrive }: FrontDoor): Server {
  function enter(wire: Wire): void {
    const arrival = arrive(new WireSource(wire, rooms.proxies));
    if (arrival !== null) new Entrance(wire, arrival, rooms).start();
    else turnAway(wire, rooms.raw !== null);
  }

  const server = createServer({ allowHalfOpen: true }, (socket) => enter(plane.wireOfSocket(socket, kind)));
  server.on('listening', () => plane.acceptWires(server, kind, enter));
  return server;
}

/** The address of a wire's other end, unless that is a proxy whose clients have addresses of their own. */
class WireSource implements Source {
  readonly #wire: Wire;
  readonly #proxies: Rooms['proxies'];

  constructor(wire: Wire, proxies: Rooms['proxies']) {
    this.#wire = wire;
    this.#proxies = proxies;
  }

  get address(): string | null {
    const address = this.#wire.ends?.remote ?? null;
    return address === null || this.#proxies?.trusts(address) === true ? null : address;
  }
}
