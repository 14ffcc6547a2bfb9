import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { UPGRADE, encodeFrame } from '../support/frames.ts';
import { House } from '../support/house.ts';

const PIECE_BYTES = 262_144;

/** What the relay takes from a client that it is done with is a few MiB, and what kernels hold. */
const MOST_BYTES = 64 * 2 ** 20;

/** A client that has said something wrong, and goes on talking. */
const CLIENTS: Readonly<Record<string, (house: House) => Promise<Socket>>> = {
  tcp: async (house) => wrong(connect({ port: house.tcpPort, host: '127.0.0.1', allowHalfOpen: true })),
  unix: async (house) => wrong(connect({ path: house.unixPath, allowHalfOpen: true })),
  websocket: async (house) => {
    const socket = connect({ port: house.websocketPort, host: '127.0.0.1', allowHalfOpen: true });
    socket.write(UPGRADE);
    await once(socket, 'data');
    socket.write(encodeFrame({ opcode: 1, payload: 'text' }));
    await once(socket, 'data');
    return socket;
  },
  HTTP: async (house) => {
    const socket = connect({ port: house.tcpPort, host: '127.0.0.1', allowHalfOpen: true });
    socket.write('GET / HTTP/1.1\r\nHost: relay\r\nContent-Length: 99999999999\r\n\r\n');
    await once(socket, 'data');
    return socket;
  },
};

async function wrong(socket: Socket): Promise<Socket> {
  socket.write('please relay nonsense\n');
  await once(socket, 'data');
  return socket;
}

for (const [name, come] of Object.entries(CLIENTS)) {
  test(`a client by ${name} that pours on when it has been told to go is hardly read`, async (context) => {
    const house = await House.open();
    context.after(() => house.close());
    const socket = await come(house);
    context.after(() => socket.destroy());
    socket.resume().on('error', () => undefined);
    const piece = Buffer.alloc(PIECE_BYTES, 0x82);
    let sent = 0;
    for (;;) {
      const taken = new Promise((resolve) => socket.write(piece, resolve));
      const isStuck = await Promise.race([taken.then(() => false), sleep(300).then(() => true)]);
      if (isStuck || socket.destroyed) break;
      sent += PIECE_BYTES;
      assert.ok(sent <= MOST_BYTES, `${sent} bytes were read of a client that was told to go`);
    }
  });
}
