import { readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** Minimum, initial and maximum size of the buffers of a TCP socket in bytes, in the form of the kernel's settings. */
export interface TcpBuffers {
  /** `net.ipv4.tcp_rmem`: receive buffer. */
  readonly rmem: string;
  /** `net.ipv4.tcp_wmem`: send buffer. */
  readonly wmem: string;
}

/** The kernel's values, with smaller maximum sizes. */
export const BOUNDED: TcpBuffers = { rmem: '4096 131072 2097152', wmem: '4096 16384 2097152' };

const DIRECTORY = '/proc/sys/net/ipv4';

export function currentTcpBuffers(): TcpBuffers {
  const read = (name: string): string =>
    readFileSync(`${DIRECTORY}/${name}`, 'utf8').trim().replaceAll('\t', ' ');
  return { rmem: read('tcp_rmem'), wmem: read('tcp_wmem') };
}

/** Takes effect for sockets that are created afterwards, in the network namespace of this process. */
export function setTcpBuffers({ rmem, wmem }: TcpBuffers): void {
  writeFileSync(`${DIRECTORY}/tcp_rmem`, rmem);
  writeFileSync(`${DIRECTORY}/tcp_wmem`, wmem);
}

/** The maximum size in a setting, for a table. */
export function maximumKiB(setting: string): string {
  return (Number(setting.split(' ').at(-1)) / 1024).toFixed(0);
}

/** Whether the settings may be changed: not if other programs of this machine use this network. */
export function canSetTcpBuffers(): boolean {
  const isOwnNamespace = Object.values(networkInterfaces()).every((addresses = []) =>
    addresses.every(({ internal }) => internal),
  );
  if (!isOwnNamespace) return false;
  try {
    setTcpBuffers(currentTcpBuffers());
    return true;
  } catch {
    return false;
  }
}
