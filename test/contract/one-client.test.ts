import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { TestRelay } from '../support/test-relay.ts';
import { findProgram } from '../support/programs.ts';
import { until } from '../support/scratch.ts';
import { oneClientSuite } from './one-client-suite.ts';
import { oneRelay } from './topology.ts';

oneClientSuite({ name: 'one relay', open: () => oneRelay(), isForwarded: false });

test('every TCP socket of a client has keepalive', async (context) => {
  const ss = findProgram('ss');
  if (ss === null) {
    context.skip('no "ss": install the Debian package iproute2');
    return;
  }
  const relay = await TestRelay.open();
  context.after(() => relay.close());
  for (const [transport, port] of [
    ['tcp', relay.tcpPort],
    ['websocket', relay.websocketPort],
  ] as const) {
    await relay.connect(transport);
    await until(() => relay.admission.connections > 0);
    const sockets = spawnSync(ss, ['-Hnto', 'state', 'established', `sport = :${port}`]).stdout.toString();
    // Time until the first probe; 30 s are configured.
    assert.match(sockets, /timer:\(keepalive,(?:29|30)/u);
  }
});
