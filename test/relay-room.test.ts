import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { readEnv } from '../src/config/read-env.ts';
import { openFilesLimit } from '../src/limits/open-files.ts';
import { roomWithin } from '../src/relay-room.ts';

const GROUP = {
  RELAY_CLUSTER_URL: 'redis://coordinator',
  RELAY_CLUSTER_SECRET: 'the secret of the group',
};

/** How many clients find room in this very process. */
function most(environment: Readonly<Record<string, string>>): number | null {
  const read = readEnv(environment, 0);
  assert.ok(read.kind === 'ok');
  return roomWithin(read.config, pino({ enabled: false })).maxConnections;
}

describe('the room for clients of a relay', () => {
  const tooMany = { RELAY_MAX_CONNECTIONS: '1000000000' };

  test('leaves each client of a group a descriptor for its link', () => {
    const open = openFilesLimit();
    assert.equal(most(tooMany), open - 128);
    assert.equal(most({ ...GROUP, ...tooMany }), Math.floor((open - 128 - 96) / 2));
  });

  test('is as much smaller where links are encrypted as where clients are', () => {
    assert.ok((most(GROUP) ?? 0) > 8192, 'the limit of open files is 20,000 at least');
    assert.equal(most({ ...GROUP, RELAY_CLUSTER_TLS: 'true' }), 8192);
  });
});
