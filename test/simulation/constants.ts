/** Copies of constants in src/; simulation.test.ts compares them. Times in milliseconds. */
export const LEASE_MS = 30_000;
export const RENEWALS_PER_LEASE = 3;
export const RENEWAL_BATCH = 500;
export const ANSWER_TIMEOUT_MS = 500;
export const HEALTH_CHECK_MS = 5000;
export const MAX_BACKOFF_MS = 5000;
export const LINK_CONNECT_TIMEOUT_MS = 1500;
export const RECONNECT_DELAY_MS = 50;
export const RETRY_MS = 50;
export const MAX_RETRY_MS = 2000;
export const OWNER_CHECK_INTERVAL_MS = 15_000;

/** By the keepalive of links with waiting clients: 5 s idle, then 10 probes, one each second. */
export const LINK_LOSS_MS = 15_000;
