import { readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

const COMPOSE_FILE = join(import.meta.dirname, '..', '..', 'docker-compose.yml');
const DIRECTORY = '/proc/sys/net/ipv4';

const NAMES = ['tcp_rmem', 'tcp_wmem', 'tcp_notsent_lowat'] as const;

/**
 * Settings of the kernel by name, in its own form. The first two are the minimum, initial and maximum size of a buffer
 * in bytes.
 */
export type TcpBuffers = Readonly<Record<(typeof NAMES)[number], string>>;

/** The settings of docker-compose.yml. */
export function composeTcpBuffers(): TcpBuffers {
  const compose = readFileSync(COMPOSE_FILE, 'utf8');
  return forEachName((name) => {
    const [, value] = new RegExp(`net\\.ipv4\\.${name}: (.*)`, 'u').exec(compose) ?? [];
    if (value === undefined) throw new Error(`docker-compose.yml does not set ${name}`);
    return value;
  });
}

export function currentTcpBuffers(): TcpBuffers {
  return forEachName((name) => readFileSync(`${DIRECTORY}/${name}`, 'utf8').trim().replaceAll('\t', ' '));
}

/** Takes effect for sockets that are created afterwards, in the network namespace of this process. */
export function setTcpBuffers(buffers: TcpBuffers): void {
  for (const name of NAMES) writeFileSync(`${DIRECTORY}/${name}`, buffers[name]);
}

function forEachName(value: (name: (typeof NAMES)[number]) => string): TcpBuffers {
  return {
    tcp_rmem: value('tcp_rmem'),
    tcp_wmem: value('tcp_wmem'),
    tcp_notsent_lowat: value('tcp_notsent_lowat'),
  };
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
