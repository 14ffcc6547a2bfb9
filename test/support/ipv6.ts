import { networkInterfaces } from 'node:os';

/** Whether the IPv6 loopback works on this machine. */
export const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  (addresses ?? []).some(({ family, address }) => family === 'IPv6' && address === '::1'),
);
