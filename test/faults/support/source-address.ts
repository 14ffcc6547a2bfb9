/**
 * A source address in 127.0.0.0/8, which is all loopback on Linux. One address has about 28,000 ports per
 * listener, and ports of closed connections are unusable for a minute, so there are several addresses, and
 * different ones for each process.
 */
export function sourceAddress(index: number, addresses: number): string {
  return `127.${1 + ((process.pid >> 8) % 254)}.${process.pid % 256}.${1 + (index % addresses)}`;
}
