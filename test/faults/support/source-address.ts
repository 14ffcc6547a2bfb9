/**
 * An address to connect from, in 127.0.0.0/8, which is all loopback on Linux. One address has about 28,000 ports for a
 * listener, and those of connections that have just been closed can't be used again for a minute; so there are several,
 * and others for each process.
 */
export function sourceAddress(index: number, addresses: number): string {
  return `127.${1 + ((process.pid >> 8) % 254)}.${process.pid % 256}.${1 + (index % addresses)}`;
}
