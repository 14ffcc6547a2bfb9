/**
 * The shortest relay in Node, with and without TLS: two sockets with the same token are piped into each
 * other.
 *
 * node node-tls-pipe.ts PLAIN_PORT TLS_PORT KEY CERTIFICATE
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

const [plainPort, tlsPort, key = '', cert = ''] = process.argv.slice(2);
const waiting = new Map<string, Socket>();

function pair(socket: Socket): void {
  socket.on('error', () => socket.destroy());
  // The load generator sends its handshake in one piece.
  socket.once('data', (line) => {
    socket.pause();
    const token = String(line).split(' ')[2] ?? '';
    const partner = waiting.get(token);
    if (partner === undefined) {
      waiting.set(token, socket);
      return;
    }
    waiting.delete(token);
    for (const end of [socket, partner]) end.write('ok\n');
    socket.pipe(partner).pipe(socket);
  });
}

createServer({ noDelay: true }, pair).listen(Number(plainPort), '127.0.0.1');
createTlsServer({ key: readFileSync(key), cert: readFileSync(cert), noDelay: true }, pair)
  .on('tlsClientError', () => undefined)
  .listen(Number(tlsPort), '127.0.0.1');
