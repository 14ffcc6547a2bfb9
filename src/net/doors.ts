import type { Server } from 'node:net';
import type { SecureContext } from 'node:tls';
import type { DataPlane } from './data-plane.ts';
import { turnAway } from './entrance.ts';
import type { Rooms } from './entrance.ts';
import { createFrontDoor } from './front-door.ts';
import { HttpDesk } from './http-desk.ts';
import type { Hub } from './hub.ts';
import { LinkPeer } from './link-peer.ts';
import type { Reception } from './reception.ts';
import { SocketPeer } from './socket-peer.ts';
import type { TrustedProxies } from './trusted-proxies.ts';
import { WebSocketPeer } from './websocket-peer.ts';
import type { WebSocketPeerOptions } from './websocket-peer.ts';
import type { Wire } from './wire.ts';

export interface DoorsOptions extends Pick<WebSocketPeerOptions, 'pingIntervalMs'> {
  readonly plane: DataPlane;
  readonly reception: Reception;
  readonly hub: Hub;
  /** Null: nobody is believed to come for somebody else. */
  readonly proxies: TrustedProxies | null;
}

/** Who comes in by a listener. */
export interface Door {
  /** `raw` takes in clients of every kind, `websocket` those that speak HTTP. */
  readonly role: 'raw' | 'websocket';
  readonly kind: Wire['kind'];
  /** The certificate at any time; null: no TLS. */
  readonly certificate: { readonly context: SecureContext } | null;
}

/** Makes servers whose connections become clients of the hub, whatever they speak. */
export class Doors {
  readonly #options: DoorsOptions;
  readonly #desk: HttpDesk;

  constructor(options: DoorsOptions) {
    const { hub, reception, proxies, pingIntervalMs, plane } = options;
    this.#options = options;
    const { backlog } = plane;
    this.#desk = new HttpDesk({
      proxies,
      comesFrom: (arrival, address) => reception.comesFrom(arrival, address),
      isDraining: () => reception.isStopping,
      left: (arrival) => reception.left(arrival),
      upgraded: (wire, arrival, firstBytes) => {
        const peer = new WebSocketPeer(wire, { pingIntervalMs, backlog });
        hub.accept(peer, arrival);
        if (firstBytes.length > 0) peer.onBytes(firstBytes);
      },
    });
  }

  /** Takes in a client that another relay passes on. */
  acceptLink(wire: Wire, firstBytes: Uint8Array): void {
    const { hub, reception } = this.#options;
    const arrival = reception.arrive(null);
    if (arrival === null) {
      turnAway(wire, true);
      return;
    }
    const peer = new LinkPeer(wire);
    hub.accept(peer, arrival);
    if (firstBytes.length > 0) peer.onBytes(firstBytes);
  }

  /** A server that does not listen yet. */
  create({ role, kind, certificate }: Door): Server {
    const { plane, hub, reception, proxies } = this.#options;
    const rooms: Rooms = {
      proxies,
      raw:
        role === 'websocket'
          ? null
          : (wire, arrival) => {
              const peer = new SocketPeer(wire);
              hub.accept(peer, arrival);
              return peer;
            },
      http: (wire, arrival, firstBytes) => this.#desk.serve(wire, arrival, firstBytes),
      tls:
        certificate === null
          ? null
          : {
              wrap: (wire, bytes, address) => plane.secure(wire, bytes, address, certificate.context),
            },
      comesFrom:
        reception.asksForAddresses || proxies !== null
          ? (arrival, address) => reception.comesFrom(arrival, address)
          : null,
      left: (arrival) => reception.left(arrival),
    };
    return createFrontDoor({
      kind,
      plane,
      rooms,
      arrive: (source) => reception.arrive(source),
    });
  }
}
