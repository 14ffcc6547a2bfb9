/** Copies of constants in src/cluster; simulation.test.ts compares them. Times in milliseconds. */
export const LEASE_MS = 30_000;
export const RENEWALS_PER_LEASE = 3;
export const RENEWAL_BATCH = 500;
export const ANSWER_TIMEOUT_MS = 500;
export const HEALTH_CHECK_MS = 5000;
export const UNHEALTHY_CHECK_MS = 1000;
export const SLOW_MS = 500;
export const MIN_BACKOFF_MS = 100;
export const MAX_BACKOFF_MS = 5000;
export const LINK_CONNECT_TIMEOUT_MS = 1500;
export const RECONNECT_DELAY_MS = 50;
export const RETRY_MS = 50;
export const MAX_RETRY_MS = 2000;

/** Jitter: a relay pauses for between this share and all of an interval. */
export const MIN_PAUSE = 0.8;
