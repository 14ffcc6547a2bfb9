import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { argv, stdout } from 'node:process';

/**
 * A peer without the cluster secret, in its own process. Reports are lines of JSON. Roles:
 *
 * - `connect-many HOST PORT COUNT TEXT` opens COUNT connections at once and sends TEXT on each. Reports when all are
 *   connected, and at the end the number of connections by received text.
 * - `eavesdropper HOST PORT TO_HOST TO_PORT` forwards connections, and reports all bytes in both directions.
 * - `impostor HOST PORT TEXT…` sends the first TEXT to each connection, and the next one after each message. Reports what
 *   it receives.
 */
const [role = '', host = '', port = '', ...rest] = argv.slice(2);

function report(value: unknown): void {
  stdout.write(`${JSON.stringify(value)}\n`);
}

/** Counts connections by the text that they received until they were closed. */
async function connectMany(count: number, text: string): Promise<void> {
  const received: Record<string, number> = {};
  let connected = 0;
  const connections = Array.from({ length: count }, () => {
    const socket = connect({ host, port: Number(port) });
    let buffer = '';
    return new Promise<void>((resolve) => {
      socket.once('connect', () => {
        connected += 1;
        if (connected === count) report({ connected });
        if (text !== '') socket.write(text);
      });
      socket.on('data', (bytes) => {
        buffer += bytes.toString('latin1');
      });
      socket.on('error', () => undefined);
      socket.on('close', () => {
        // Nonces are random.
        const key = buffer.replaceAll(/[0-9a-f]{64}/gu, 'NONCE');
        received[key] = (received[key] ?? 0) + 1;
        resolve();
      });
    });
  });
  await Promise.all(connections);
  report({ received });
}

function eavesdrop(toHost: string, toPort: string): void {
  serve((caller) => {
    const owner = connect({ host: toHost, port: Number(toPort) });
    for (const [from, to, sender] of [
      [caller, owner, 'caller'],
      [owner, caller, 'owner'],
    ] as const) {
      from.on('data', (bytes) => {
        report({ sender, sent: bytes.toString('latin1') });
        to.write(bytes);
      });
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
  });
}

function impostor(texts: readonly string[]): void {
  serve((socket) => {
    const remaining = [...texts];
    socket.write(remaining.shift() ?? '', 'latin1');
    socket.on('data', (bytes) => {
      report({ received: bytes.toString('latin1') });
      socket.write(remaining.shift() ?? '', 'latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => report({ closed: true }));
  });
}

function serve(onConnection: (socket: Socket) => void): void {
  createServer(onConnection).listen({ host, port: Number(port) }, () => report({ listening: true }));
}

if (role === 'connect-many') await connectMany(Number(rest[0]), rest[1] ?? '');
else if (role === 'eavesdropper') eavesdrop(rest[0] ?? '', rest[1] ?? '');
else if (role === 'impostor') impostor(rest);
