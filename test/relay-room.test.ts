import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { readEnv } from '../src/config/read-env.ts';
import { openFilesLimit } from '../src/limits/open-files.ts';
import type { Room } from '../src/limits/from-config.ts';
import { roomWithin } from '../src/relay-room.ts';

const GROUP = {
  RELAY_CLUSTER_URL: 'redis://coordinator',
  RELAY_CLUSTER_SECRET: 'the secret of the group',
};

/** What a relay with the limits of this very process has. */
function roomOf(environment: Readonly<Record<string, string>>): Room {
  const read = readEnv(environment, 0);
  assert.ok(read.kind === 'ok');
  return roomWithin(read.config, pino({ enabled: false }));
}

describe('the room for clients of a relay', () => {
  test('leaves each client of a group a descriptor for its link', () => {
    const open = openFilesLimit();
    assert.equal(roomOf({}).fits, open - 128);
    assert.equal(roomOf(GROUP).fits, Math.floor((open - 128 - 96) / 2));
  });

  test('is as much smaller where links are encrypted as where clients are', () => {
    const plain = roomOf(GROUP).maxConnections ?? 0;
    assert.ok(plain > 8192, 'the limit of open files is 20,000 at least');
    assert.equal(roomOf({ ...GROUP, RELAY_CLUSTER_TLS: 'true' }).maxConnections, 8192);
  });
});
