import { networkInterfaces } from 'node:os';

/** Whether this machine can reach itself by IPv6. */
export const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  (addresses ?? []).some(({ family, address }) => family === 'IPv6' && address === '::1'),
);
