import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ending } from '../../src/net/connection.ts';
import { DataPlane } from '../../src/net/data-plane.ts';
import { Doors } from '../../src/net/doors.ts';
import type { Door } from '../../src/net/doors.ts';
import type { Elsewhere } from '../../src/net/elsewhere.ts';
import { Hub } from '../../src/net/hub.ts';
import type { HubOptions } from '../../src/net/hub.ts';
import { listen } from '../../src/net/listener.ts';
import type { Transport } from '../../src/net/peer.ts';
import { Reception } from '../../src/net/reception.ts';
import type { ReceptionOptions } from '../../src/net/reception.ts';
import type { TrustedProxies } from '../../src/net/trusted-proxies.ts';
import { TestClient } from './test-client.ts';

export interface HouseOptions {
  readonly pingIntervalMs?: number;
  /** Reads by way of ordinary streams, as where Node's handles can't be used. */
  readonly ordinaryStreams?: boolean;
  readonly bufferMemoryBytes?: number;
  readonly timeouts?: {
    readonly handshakeMs?: number;
    readonly waitMs?: number;
    readonly idleMs?: number;
  };
  readonly limits?: Partial<
    Pick<ReceptionOptions, 'maxConnections' | 'maxWaiting' | 'addresses'> &
      Pick<HubOptions, 'pacer' | 'pairBytes'>
  >;
  readonly proxies?: TrustedProxies;
  readonly elsewhere?: Elsewhere;
  /** Of all listeners but the unix-domain socket's. */
  readonly certificate?: Door['certificate'];
}

/** A hub that listens on all three transports, and everything it has recorded. */
export class House {
  readonly hub: Hub;
  readonly reception: Reception;
  readonly plane: DataPlane;
  readonly doors: Doors;
  readonly endings: Ending[] = [];
  readonly faults: unknown[] = [];
  readonly #servers: Server[];
  readonly #directory: string;
  readonly #clients: TestClient[] = [];
  #ports = { tcp: 0, websocket: 0 };
  #wake: () => void = () => undefined;

  private constructor(directory: string, plane: DataPlane, options: HouseOptions) {
    this.plane = plane;
    this.#directory = directory;
    const { timeouts = {}, limits = {} } = options;
    const monotonicClock = (): number => performance.now();
    this.reception = new Reception({
      handshakeMs: timeouts.handshakeMs ?? null,
      maxConnections: limits.maxConnections ?? null,
      maxWaiting: limits.maxWaiting ?? null,
      addresses: limits.addresses ?? null,
      wallClock: Date.now,
      monotonicClock,
    });
    this.hub = new Hub({
      reception: this.reception,
      waitMs: timeouts.waitMs ?? null,
      idleMs: timeouts.idleMs ?? null,
      pacer: limits.pacer ?? null,
      pairBytes: limits.pairBytes ?? null,
      monotonicClock,
      ended: (ending) => {
        this.endings.push(ending);
        this.#wake();
      },
      fault: (error) => this.faults.push(error),
    });
    const doors = new Doors({
      plane,
      reception: this.reception,
      hub: this.hub,
      proxies: options.proxies ?? null,
      pingIntervalMs: options.pingIntervalMs ?? 30_000,
    });
    this.doors = doors;
    this.hub.elsewhere = options.elsewhere ?? null;
    const certificate = options.certificate ?? null;
    this.#servers = [
      doors.create({ role: 'raw', kind: 'tcp', certificate }),
      doors.create({ role: 'raw', kind: 'unix', certificate: null }),
      doors.create({ role: 'websocket', kind: 'tcp', certificate }),
    ];
  }

  static async open(options: HouseOptions = {}): Promise<House> {
    const plane =
      options.ordinaryStreams === true
        ? DataPlane.ofOrdinaryStreams()
        : await DataPlane.open(options.bufferMemoryBytes ?? 64 * 2 ** 20);
    const house = new House(await mkdtemp(join(tmpdir(), 'relay-house-')), plane, options);
    const [tcp, unix, websocket] = house.#servers;
    const loopback = { kind: 'tcp', port: 0, interface: '127.0.0.1', backlog: null, tls: null } as const;
    if (tcp === undefined || unix === undefined || websocket === undefined)
      throw new Error('a server is missing');
    await listen(tcp, loopback);
    await listen(unix, { kind: 'unix', path: house.unixPath, mode: null, backlog: null });
    await listen(websocket, loopback);
    house.#ports = { tcp: portOf(tcp), websocket: portOf(websocket) };
    return house;
  }

  get unixPath(): string {
    return join(this.#directory, 'relay.sock');
  }

  get tcpPort(): number {
    return this.#ports.tcp;
  }

  get websocketPort(): number {
    return this.#ports.websocket;
  }

  /** Connects a client; it is closed with the house. */
  async connect(transport: Transport): Promise<TestClient> {
    const client = await TestClient.connect(transport, {
      tcpPort: this.#ports.tcp,
      unixPath: this.unixPath,
      websocketPort: this.#ports.websocket,
    });
    this.#clients.push(client);
    return client;
  }

  /** The first `count` records, in the order they were made. */
  async recorded(count: number): Promise<readonly Ending[]> {
    while (this.endings.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.endings;
  }

  /** Resolves when the pairs that run have moved nothing for half a second. */
  async stalled(): Promise<void> {
    let last = -1;
    for (let still = 0; still < 10;) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      const now = this.hub.census().incompleteBytes;
      still = now === last ? still + 1 : 0;
      last = now;
    }
  }

  /** Ends everything; throws where the hub's counts are off or a fault was caught on the way. */
  async close(): Promise<void> {
    this.hub.checkConsistency();
    for (const server of this.#servers) server.close();
    this.hub.close();
    this.hub.checkConsistency();
    for (const client of this.#clients) client.destroy();
    await rm(this.#directory, { recursive: true, force: true });
    if (this.faults.length > 0) throw new AggregateError(this.faults, 'the hub caught faults');
  }
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') throw new Error('not a TCP server');
  return address.port;
}
