/** What src/cluster has for itself; simulation.test.ts compares them. Times in milliseconds. */
export const LEASE_MS = 30_000;
export const RENEWALS_IN_A_LEASE = 3;
export const BATCH = 500;
export const ANSWER_MS = 500;
export const TEST_MS = 5000;
export const TEST_AGAIN_MS = 1000;
export const SLOW_MS = 500;
export const MIN_BACKOFF_MS = 100;
export const MAX_BACKOFF_MS = 5000;
export const CALL_MS = 1500;
export const AGAIN_MS = 50;
export const RETRY_MS = 50;
export const LONGEST_RETRY_MS = 2000;

/** A relay takes between this share and all of a pause, so that relays do not come in step. */
export const LEAST_PAUSE = 0.8;
