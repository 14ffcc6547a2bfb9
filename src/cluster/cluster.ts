import type { KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataPlane } from '../net/data-plane.ts';
import type { Elsewhere, Link, Owner } from '../net/elsewhere.ts';
import { parseHostPort } from '../net/host-port.ts';
import type { Token } from '../protocol/wire.ts';
import { CallLanes } from './call-lanes.ts';
import { Claims } from './claims.ts';
import type { Claim } from './claim-entry.ts';
import type { ClaimsOptions } from './claims.ts';
import { greetingKey } from './greeting.ts';
import { LinkError, callRelay } from './link-call.ts';
import type { LinkCall, LinkErrorCode } from './link-call.ts';
import type { LinkTls } from './link-tls.ts';
import type { PeerNetworks } from './peer-networks.ts';

/** For a connection to another relay and the greeting. A Go receiver gives the relay 5 s in all. In milliseconds. */
const CALL_MS = 1500;

/** Time before a relay that can't be reached is called once more, in milliseconds. */
const AGAIN_MS = 50;

/** The same for one that turns calls away, time after time: longer together than strangers keep a place there without making room. */
const TURNED_AWAY_MS = [50, 100, 200, 400];

/** Calls to one relay at a time: who has lost many tokens at once must not take all places at its door, and turn itself away. */
const MOST_CALLS = 16;

export interface ClusterOptions extends ClaimsOptions {
  readonly plane: DataPlane;
  /** The same on all relays of the group. */
  readonly tls: LinkTls | null;
  readonly networks: PeerNetworks;
  /** Another relay could not be called. Not told of calls that end because this relay does. */
  readonly callFailed: (failure: LinkErrorCode, owner: Owner) => void;
  /** Another relay that runs says that it is found where this one is. Told for each token that it takes. */
  readonly addressTaken: () => void;
}

/** The other relays of the group: whose a token is, and a link to them. */
export class Cluster implements Elsewhere {
  readonly #options: ClusterOptions;
  readonly #claims: Claims;
  /** Made once: that takes longer than all else of a greeting. */
  readonly #key: KeyObject;
  readonly #closing = new AbortController();
  readonly #failures: Record<LinkErrorCode, number> = {
    version: 0,
    secret: 0,
    'not a relay': 0,
    tls: 0,
    address: 0,
    unreachable: 0,
    timeout: 0,
    aborted: 0,
  };
  readonly #lanes = new CallLanes(MOST_CALLS, (error) => error instanceof LinkError && !error.isTurnedAway);
  #calls = 0;

  /** @throws CoordinatorError with the code `EINVAL`: the URL is none */
  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#key = greetingKey(options.secret);
    const lost = (token: Token, owner: Owner): void => {
      if (this.#isElsewhere(owner)) options.events.lost(token, owner);
      else options.addressTaken();
    };
    this.#claims = Claims.open({ ...options, events: { ...options.events, lost } });
  }

  get claims(): Pick<Claims, 'isUp' | 'fault' | 'wanted' | 'held' | 'totals'> {
    return this.#claims;
  }

  /** Calls to other relays since the start, and how those failed that did. */
  get calls(): { readonly made: number; readonly failed: Readonly<Record<LinkErrorCode, number>> } {
    return { made: this.#calls, failed: this.#failures };
  }

  async seek(token: Token): Promise<Owner | null> {
    return this.#ownerIn(await this.#claims.claim(token));
  }

  async takeOver(token: Token, owner: Owner): Promise<Owner | null> {
    return this.#ownerIn(await this.#claims.takeOver(token, owner));
  }

  isOwner(token: Token, owner: Owner): Promise<boolean> {
    return this.#claims.isOwner(token, owner);
  }

  release(token: Token): void {
    this.#claims.release(token);
  }

  async call(owner: Owner): Promise<Link> {
    this.#calls += 1;
    try {
      return await this.#callAgain(owner);
    } catch (error) {
      if (error instanceof LinkError) this.#failed(error.code, owner);
      throw error;
    }
  }

  #ownerIn(claim: Claim): Owner | null {
    return claim.kind === 'theirs' && this.#isElsewhere(claim.owner) ? claim.owner : null;
  }

  /** A call would come back to this relay otherwise. */
  #isElsewhere(owner: Owner): boolean {
    return owner.address !== this.#options.self.address;
  }

  #failed(failure: LinkErrorCode, owner: Owner): void {
    this.#failures[failure] += 1;
    if (failure !== 'aborted') this.#options.callFailed(failure, owner);
  }

  /** A relay that many call at once turns some of them away for a moment, and must not lose its tokens for that. */
  async #callAgain(owner: Owner): Promise<Link> {
    const { plane, tls, networks } = this.#options;
    const { signal } = this.#closing;
    const address = parseHostPort(owner.address);
    if (address === null) throw new LinkError('address');
    const call: LinkCall = { plane, key: this.#key, tls, networks, address, timeoutMs: CALL_MS, signal };
    for (let turn = 0; ; turn += 1) {
      try {
        return await this.#lanes.run(owner.address, () => callRelay(call));
      } catch (error) {
        if (!(error instanceof LinkError) || error.code !== 'unreachable') throw error;
        const pauseMs = (error.isTurnedAway ? TURNED_AWAY_MS : [AGAIN_MS])[turn];
        if (pauseMs === undefined) throw error;
        await sleep(pauseMs);
      }
    }
  }

  /** Ends calls that are being made, releases what is claimed, and disconnects. Takes two seconds at most. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#claims.close();
  }
}
