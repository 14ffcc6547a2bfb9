import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { argv, stdout } from 'node:process';

/**
 * Somebody who has no secret, in a process of its own; what it has to tell is lines of JSON. As
 *
 * - `crowd HOST PORT COUNT TEXT` it connects so many times at once, says that on each connection, and tells how many have
 *   connected, and in the end what it heard, by how often;
 * - `listener HOST PORT TO_HOST TO_PORT` it passes on whoever comes, and tells what is said, either way;
 * - `impostor HOST PORT TEXT…` it says one text after the other to whoever comes, each when it has heard something, and tells what it hears.
 */
const [role = '', host = '', port = '', ...rest] = argv.slice(2);

function report(what: unknown): void {
  stdout.write(`${JSON.stringify(what)}\n`);
}

/** Counts what each connection heard until it ended. */
async function connectMany(count: number, text: string): Promise<void> {
  const heard: Record<string, number> = {};
  let connected = 0;
  const visits = Array.from({ length: count }, () => {
    const socket = connect({ host, port: Number(port) });
    let all = '';
    return new Promise<void>((resolve) => {
      socket.once('connect', () => {
        connected += 1;
        if (connected === count) report({ connected });
        if (text !== '') socket.write(text);
      });
      socket.on('data', (bytes) => {
        all += bytes.toString('latin1');
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        // What is random is not counted.
        const what = all.replaceAll(/[0-9a-f]{64}/gu, 'NONCE');
        heard[what] = (heard[what] ?? 0) + 1;
        resolve();
      });
    });
  });
  await Promise.all(visits);
  report({ heard });
}

function relayAndRecord(toHost: string, toPort: string): void {
  serve((near) => {
    const far = connect({ host: toHost, port: Number(toPort) });
    for (const [from, to, who] of [
      [near, far, 'caller'],
      [far, near, 'owner'],
    ] as const) {
      from.on('data', (bytes) => {
        report({ who, said: bytes.toString('latin1') });
        to.write(bytes);
      });
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
  });
}

function impostor(texts: readonly string[]): void {
  serve((socket) => {
    const left = [...texts];
    socket.write(left.shift() ?? '', 'latin1');
    socket.on('data', (bytes) => {
      report({ heard: bytes.toString('latin1') });
      socket.write(left.shift() ?? '', 'latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => report({ closed: true }));
  });
}

function serve(come: (socket: Socket) => void): void {
  createServer(come).listen({ host, port: Number(port) }, () => report({ listening: true }));
}

if (role === 'crowd') await connectMany(Number(rest[0]), rest[1] ?? '');
else if (role === 'listener') relayAndRecord(rest[0] ?? '', rest[1] ?? '');
else if (role === 'impostor') impostor(rest);
