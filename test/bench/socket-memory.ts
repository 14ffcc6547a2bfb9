import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const KIB = 1024;
const PAGE_KIB = 4;

/** Output of `ss` for 1000 connections is 400 KB. */
const MAX_OUTPUT_BYTES = 1e8;

/** `skmem` of a socket: bytes in its receive queue, and in its send queue. */
const SOCKET = /skmem:\(r(?<received>\d+),rb\d+,t\d+,tb\d+,f\d+,w(?<unsent>\d+),/u;

/** Kernel memory in KiB. */
export interface SocketMemory {
  readonly receiveKiB: number;
  readonly sendKiB: number;
}

/**
 * Memory of the established TCP connections of a process: what its container is charged for them. Bytes in the pipes of
 * HAProxy's splice are in no socket, and are not included.
 */
export function socketMemoryOf(ss: string, pid: number): SocketMemory {
  const args = ['--tcp', '--memory', '--processes', '--numeric', '--no-header', '--oneline'];
  const output = execFileSync(ss, [...args, 'state', 'established'], {
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT_BYTES,
  });
  const memory = { receiveKiB: 0, sendKiB: 0 };
  for (const line of output.split('\n').filter((text) => text.includes(`,pid=${pid},`))) {
    const { received, unsent } = SOCKET.exec(line)?.groups ?? {};
    memory.receiveKiB += Number(received) / KIB;
    memory.sendKiB += Number(unsent) / KIB;
  }
  return memory;
}

/** Memory of all TCP sockets of this machine, in KiB: the kernel has one counter for all network namespaces. */
export function allSocketsKiB(): number {
  const pages = /^TCP: .* mem (\d+)$/mu.exec(readFileSync('/proc/net/sockstat', 'utf8'));
  return Number(pages?.[1]) * PAGE_KIB;
}
