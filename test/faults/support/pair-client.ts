import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { encodeFrame } from '../../support/frames.ts';
import { sourceAddress } from './source-address.ts';
import { UPGRADE } from './websocket-attacks.ts';

/** Ports of a relay on 127.0.0.1. */
export interface Ports {
  readonly raw: number;
  readonly websocket: number;
}

export type NetTransport = 'tcp' | 'websocket';

const ADDRESSES = 4;

const BINARY = 2;

let clientCount = 0;

/** A client that behaves correctly until it gets `ok`, over either transport. */
export class PairClient {
  readonly socket: Socket;
  /** Resolves when it has received `ok`; it stops reading then. Rejects if the connection ends before. */
  readonly ok: Promise<void>;
  /** Resolves when the WebSocket or the raw connection is open. */
  readonly open: Promise<void>;

  constructor(ports: Ports, transport: NetTransport, line: string) {
    const isWebSocket = transport === 'websocket';
    clientCount += 1;
    const socket = connect({
      port: isWebSocket ? ports.websocket : ports.raw,
      host: '127.0.0.1',
      localAddress: sourceAddress(clientCount, ADDRESSES),
      noDelay: true,
    });
    const open = Promise.withResolvers<void>();
    const ok = Promise.withResolvers<void>();
    const sendLine = (): void => {
      socket.write(isWebSocket ? encodeFrame({ opcode: BINARY, payload: line }) : line);
      open.resolve();
    };
    let received = '';
    const onData = (bytes: Buffer): void => {
      const wasOpen = received.includes('\r\n\r\n');
      received += bytes.toString('latin1');
      if (isWebSocket && !wasOpen && received.includes('\r\n\r\n')) sendLine();
      if (!received.endsWith('ok\n')) return;
      socket.off('data', onData);
      socket.pause();
      ok.resolve();
    };
    socket.on('data', onData);
    socket.once('connect', () => (isWebSocket ? socket.write(UPGRADE) : sendLine()));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      for (const { reject } of [open, ok]) reject(new Error(`the relay closed a client after "${received}"`));
    });
    // Callers may await only one of them.
    for (const { promise } of [open, ok]) promise.catch(() => undefined);
    this.socket = socket;
    this.open = open.promise;
    this.ok = ok.promise;
  }
}
