import { deepEqual, doesNotMatch, equal, ok } from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GRAPHS, withoutMunin } from './munin-node.ts';
import { ReferenceRelay, withoutReference } from '../../support/reference-relay.ts';
import { RelayProcess, UsageReader } from '../../support/relay-process.ts';
import { until } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';
import { pairAt, runClients } from './clients.ts';
import { referencePlugin, withoutReferencePlugins } from './reference-plugins.ts';
import {
  BUSY_RELAY_VALUES,
  FIELDS,
  MOODS,
  startBusyRelay,
  filesBeside,
  newPath,
  startMunin,
  zeros,
} from './scene.ts';

describe('the Munin plugin', { skip: withoutMunin() }, () => {
  test('has five graphs with the filesBeside, fields and types of the reference, with any database', async (context) => {
    const node = await startMunin(context, await newPath(context));
    deepEqual(
      await node.list(),
      GRAPHS.map((graph) => `wormhole_transit_${graph}`),
    );
    for (const graph of GRAPHS) {
      const config = await node.config(graph);
      deepEqual(
        [...config.keys()].filter((name) => name.endsWith('.label')),
        FIELDS[graph].map((field) => `${field}.label`),
      );
      for (const field of FIELDS[graph]) equal(config.get(`${field}.type`), 'GAUGE');
      ok(config.get('graph_title') !== undefined && config.get('graph_vlabel') !== undefined);
      equal(config.get('graph_category'), 'wormhole');
    }
    const titles = await Promise.all(
      GRAPHS.map(async (graph) => (await node.config(graph)).get('graph_title')),
    );
    equal(new Set(titles).size, GRAPHS.length);
  });

  test('shows rates if configured, which are never negative after a restart', async (context) => {
    const node = await startMunin(context, await newPath(context), 'env.rates yes');
    for (const graph of GRAPHS) {
      const config = await node.config(graph);
      for (const field of FIELDS[graph]) {
        equal(config.get(`${field}.type`), graph === 'active' ? 'GAUGE' : 'DERIVE');
        equal(config.get(`${field}.min`), '0');
      }
    }
  });

  test('has the correct values for a relay, and leaves no files', async (context) => {
    const path = await newPath(context);
    await using relay = await startBusyRelay(path);
    const node = await startMunin(context, path);
    const before = filesBeside(path);
    deepEqual(await node.fetchAll(), BUSY_RELAY_VALUES);
    deepEqual(filesBeside(path), before);
    doesNotMatch(relay.log, /usage database/u);
    doesNotMatch(node.log, /Error output/u);
  });

  test('has the correct values while the relay writes, and delays neither records nor transfers', async (context) => {
    const path = await newPath(context);
    await using relay = await RelayProcess.start({ RELAY_USAGE_DB: path });
    const node = await startMunin(context, path);
    const port = relay.port('raw');
    const pair = await pairAt(port);
    const transfer = pair.exchange(50_000_000);
    const enough = new AbortController();
    let clientCount = 0;
    const clients = (async () => {
      // More than 1000 at once would be suppressed.
      for (; !enough.signal.aborted && clientCount < 900; clientCount += 1)
        await runClients(port, ['errory']);
    })();
    using reader = new UsageReader(path);
    for (let round = 0; round < 10; round += 1) {
      const before = reader.rows().length;
      const { errory } = await node.fetch('events');
      const after = reader.rows().length;
      ok(before <= Number(errory) && Number(errory) <= after, `${before} <= ${errory} <= ${after}`);
    }
    enough.abort();
    await clients;
    await transfer;
    await pair.end();
    await until(() => reader.rows().length === clientCount + 1);
    deepEqual(await node.fetch('events_alltime'), {
      ...zeros(MOODS),
      happy: '1',
      errory: String(clientCount),
    });
    deepEqual(await node.fetch('bytes'), { bytes: '100000000', incomplete: '100000000' });
    doesNotMatch(relay.log, /usage database/u);
    doesNotMatch(node.log, /Error output/u);
  });

  test('resets all graphs at a restart except those of all time', async (context) => {
    const path = await newPath(context);
    await using first = await startBusyRelay(path);
    await first.stop();
    await using second = await RelayProcess.start({ RELAY_USAGE_DB: path });
    await runClients(second.port('raw'), ['errory']);
    using reader = new UsageReader(path);
    // The pair and the waiting client are recorded too.
    await until(() => reader.rows().length === 3 + 9 + 4 + 2 + 1);
    const node = await startMunin(context, path);
    deepEqual(await node.fetch('bytes'), { bytes: '0', incomplete: '0' });
    deepEqual(await node.fetch('bytes_alltime'), { bytes: '602006', incomplete: '602006' });
    deepEqual(await node.fetch('events'), { ...zeros(MOODS), errory: '1' });
    deepEqual(await node.fetch('events_alltime'), {
      ...BUSY_RELAY_VALUES.events_alltime,
      happy: '5',
      errory: '3',
      lonely: '4',
    });
  });

  test('has the correct values for the reference', { skip: withoutReference() }, async (context) => {
    const path = await newPath(context);
    createUsageFile(path, { rows: 3, journalMode: 'delete' });
    await using relay = await ReferenceRelay.start(path);
    const ended = await pairAt(relay.port);
    await ended.exchange(20_000);
    await ended.end();
    const running = await pairAt(relay.port, 1);
    await running.exchange(1000);
    // The reference only updates `current` together with a record, and then still counts the closing client as waiting.
    await runClients(relay.port, ['errory', 'lonely']);
    const node = await startMunin(context, path);
    using reader = new UsageReader(path);
    await until(() => reader.rows().length === 3 + 4);
    deepEqual(await node.fetchAll(), {
      active: { waiting: '1', connected: '1' },
      bytes: { bytes: '40000', incomplete: '42000' },
      bytes_alltime: { bytes: '40006', incomplete: '42006' },
      events: { ...zeros(MOODS), happy: '1', errory: '1', lonely: '1', redundant: '1' },
      events_alltime: { ...zeros(MOODS), happy: '4', errory: '1', lonely: '1', redundant: '1' },
    });
  });
});

describe('the reference’s own Munin plugins', { skip: withoutReferencePlugins() }, () => {
  test('read the same values from our database as ours', async (context) => {
    const path = await newPath(context);
    await using relay = await startBusyRelay(path);
    for (const graph of GRAPHS) {
      const values = referencePlugin(graph, path);
      ok(Object.keys(values).length > 0);
      const known = Object.entries(BUSY_RELAY_VALUES[graph]).filter(([field]) => field in values);
      deepEqual(values, Object.fromEntries(known));
    }
    doesNotMatch(relay.log, /usage database/u);
  });

  test('have no fields that ours lacks', () => {
    for (const graph of GRAPHS) {
      const config = referencePlugin(graph, '', 'config');
      const names = Object.keys(config).filter((name) => name.endsWith('.type'));
      deepEqual(
        names.map((name) => config[name]),
        names.map(() => 'GAUGE'),
      );
      for (const name of names) ok(FIELDS[graph].includes(name.replace(/\.type$/u, '')), name);
    }
  });
});
