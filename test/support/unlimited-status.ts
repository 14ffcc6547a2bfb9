import type { RelayStatus } from '../../src/status/relay-status.ts';

/** The status of a relay that has rejected no clients and has no quota. */
export const UNLIMITED_STATUS: Pick<RelayStatus, 'connections' | 'refused' | 'quota'> = {
  connections: 5,
  refused: { connections: 0, waiting: 0, address: 0, quota: 0, shutdown: 0 },
  quota: null,
};
