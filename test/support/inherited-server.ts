import { createServer } from 'node:net';
import { readInheritedSockets } from '../../src/config/inherited-sockets.ts';
import { formatEndpoint, parseEndpoint } from '../../src/config/endpoint.ts';
import { ListenError, listen } from '../../src/transport/listener.ts';

/**
 * A program that listens on the endpoints it is given as arguments, says where it does or why not, greets everybody
 * with its process id, and ends with SIGTERM, as a server does that closes.
 */
const inherited = readInheritedSockets(process.env, process.pid);
for (const text of process.argv.slice(2)) {
  const server = createServer((socket) => socket.end(`${process.pid}\n`));
  process.once('SIGTERM', () => server.close());
  try {
    const bound = await listen(server, parseEndpoint(text), inherited);
    process.stdout.write(`${text} is ${formatEndpoint(bound)} of ${process.pid}\n`);
  } catch (error) {
    if (!(error instanceof ListenError)) throw error;
    process.stdout.write(`fault: ${error.message}\n`);
  }
}
