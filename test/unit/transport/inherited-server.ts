import { createServer } from 'node:net';
import { readInheritedSockets } from '../../../src/config/inherited-sockets.ts';
import { formatEndpoint, parseEndpoint } from '../../../src/config/endpoint.ts';
import { ListenError, listen } from '../../../src/transport/listener.ts';

/**
 * A program that listens on the endpoints in its arguments and prints where, or the error. It sends its
 * process id to every connection and ends on SIGTERM as a server that closes.
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
    process.stdout.write(`error: ${error.message}\n`);
  }
}
