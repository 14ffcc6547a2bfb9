import type { RelayStatus } from '../../src/status/relay-status.ts';

/** What a relay says of itself that has refused nobody and has no quota. */
export const UNLIMITED_STATUS: Pick<RelayStatus, 'connections' | 'refused' | 'quota'> = {
  connections: 5,
  refused: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 },
  quota: null,
};
