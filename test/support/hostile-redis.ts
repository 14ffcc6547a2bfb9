import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import type { TestContext } from 'node:test';

/** Reply to a command; null for no reply. */
export type Answer = (command: readonly string[]) => string | Endless | null;

/** A reply that does not end: `head`, then `piece` repeatedly for as long as the client reads. */
export interface Endless {
  readonly head: string;
  readonly piece: Buffer;
}

/** Replies of an empty Redis to the commands that a relay uses. */
export function honest([name = '', , third = '']: readonly string[]): string {
  if (name === 'HELLO') return '%0\r\n';
  if (name === 'SCRIPT') return bulk(createHash('sha1').update(third).digest('hex'));
  return ['SET', 'GET', 'EVALSHA'].includes(name) ? '$-1\r\n' : '+OK\r\n';
}

export function bulk(text: string): string {
  return `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

/** A coordinator whose replies the test chooses. */
export class HostileRedis {
  readonly port: number;
  answer: Answer = honest;
  /** Bytes sent since the start. */
  sentBytes = 0;
  /** Connections since the start. */
  connections = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.port = port;
  }

  static async start(context: TestContext): Promise<HostileRedis> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('a TCP server without a port');
    const redis = new HostileRedis(address.port);
    context.after(() => {
      server.close();
      for (const socket of redis.#sockets) socket.destroy();
    });
    server.on('connection', (socket) => redis.#serve(socket));
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  #serve(socket: Socket): void {
    this.connections += 1;
    this.#sockets.add(socket);
    let rest = '';
    socket.setEncoding('latin1');
    socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket));
    socket.on('data', (text: string) => {
      const { commands, unread } = commandsIn(rest + text);
      rest = unread;
      for (const command of commands) this.#send(socket, this.answer(command));
    });
  }

  #send(socket: Socket, answer: ReturnType<Answer>): void {
    if (answer === null || socket.destroyed) return;
    const { head, piece } = typeof answer === 'string' ? { head: answer, piece: null } : answer;
    socket.write(head, 'latin1');
    this.sentBytes += head.length;
    const more = (): void => {
      if (piece === null) return;
      do this.sentBytes += piece.length;
      while (!socket.destroyed && socket.write(piece));
      socket.once('drain', more);
    };
    more();
  }
}

/** Parses complete commands of a client, which are arrays of bulk strings. */
function commandsIn(text: string): { readonly commands: string[][]; readonly unread: string } {
  const commands: string[][] = [];
  let at = 0;
  for (;;) {
    const command: string[] = [];
    let end = text.indexOf('\r\n', at);
    const count = Number(text.slice(at + 1, Math.max(at, end)));
    let next = end + 2;
    for (let left = count; left > 0 && end >= 0; left -= 1) {
      end = text.indexOf('\r\n', next);
      const start = end + 2;
      const length = Number(text.slice(next + 1, Math.max(next, end)));
      next = start + length + 2;
      if (next > text.length) end = -1;
      command.push(text.slice(start, start + length));
    }
    if (end < 0) return { commands, unread: text.slice(at) };
    commands.push(command);
    at = next;
  }
}
