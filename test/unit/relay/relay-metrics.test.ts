import assert from 'node:assert/strict';
import { statSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { SIDE_A, SIDE_B, SIDE_C, handshake, newToken } from '../../support/bytes.ts';
import { CertificateDirectory } from '../../support/certificate-directory.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { freePort } from '../../support/listening.ts';
import { scrape } from '../../support/metrics.ts';
import { scratch } from '../../support/scratch.ts';
import { metricExceeds, metricIs, nonZeroMetrics, allDisconnected } from '../../support/metric-assertions.ts';
import { OpenRelay } from '../../support/open-relay.ts';
import { TRANSPORTS, connectPair } from '../../support/test-client.ts';

/** Size of a database with its write-ahead log. */
function bytesOf(path: string): number {
  return statSync(path).size + statSync(`${path}-wal`).size;
}

describe('the metrics of the relay', () => {
  test('have one prefix except those of the process, exist from the start, and start at 0', async (context) => {
    await using relay = await OpenRelay.start({
      RELAY_USAGE_DB: join(await scratch(context), 'usage.sqlite'),
    });
    const metrics = await scrape(relay.statusUrl);
    for (const series of metrics.keys()) assert.match(series, /^(?:transit_relay|process|nodejs)_/u);
    assert.ok(metrics.has('nodejs_eventloop_lag_p99_seconds'));
    const clientMetrics =
      /^transit_relay_(?:connections_(?:accepted|rejected|ended|waiting|paired|open)|pairs|relayed|buffered|paused|waiting|pair_|handshake|quota|usage_records|draining|file_descriptors)/u;
    const found = [...metrics].filter(([series]) => clientMetrics.test(series));
    for (const [series, value] of found) assert.equal(value, 0, series);
    const names = new Set(found.map(([series]) => series.replace('transit_relay_', '')));
    for (const transport of TRANSPORTS) {
      assert.ok(names.has(`connections_accepted_total{transport="${transport}"}`));
      for (const mood of ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty'])
        assert.ok(names.has(`connections_ended_total{mood="${mood}",transport="${transport}"}`));
      for (const to of TRANSPORTS)
        assert.ok(names.has(`relayed_bytes_total{from="${transport}",to="${to}"}`));
    }
  });

  for (const from of TRANSPORTS) {
    for (const to of TRANSPORTS) {
      test(`count a pair of ${from} and ${to}, its bytes in each direction while it runs, and its end`, async (context) => {
        const unix = join(await scratch(context), 'relay.sock');
        await using relay = await OpenRelay.start({ RELAY_LISTEN: `tcp:0:interface=127.0.0.1 unix:${unix}` });
        const [a, b] = await connectPair(relay, from, to);
        await a.send(Buffer.alloc(123_456));
        await b.until(123_459);
        await b.send(Buffer.alloc(789));
        await a.until(792);
        const bytes =
          from === to
            ? { [`{from="${from}",to="${to}"}`]: 124_245 }
            : { [`{from="${from}",to="${to}"}`]: 123_456, [`{from="${to}",to="${from}"}`]: 789 };
        const each =
          from === to
            ? { [`{transport="${from}"}`]: 2 }
            : { [`{transport="${from}"}`]: 1, [`{transport="${to}"}`]: 1 };
        assert.deepEqual(await nonZeroMetrics(relay, 'relayed_bytes_total'), bytes);
        assert.deepEqual(await nonZeroMetrics(relay, 'connections_accepted_total'), each);
        assert.deepEqual(await nonZeroMetrics(relay, 'connections_ended_total'), {});
        assert.deepEqual(await nonZeroMetrics(relay, 'pairs_made_total'), { '': 1 });
        assert.deepEqual(await nonZeroMetrics(relay, 'connections_paired'), { '': 2 });
        a.end();
        b.end();
        await allDisconnected(relay);
        assert.deepEqual(await nonZeroMetrics(relay, 'relayed_bytes_total'), bytes);
        const moods = Object.entries(each).map(([transport, count]) => [
          transport.replace('{', '{mood="happy",'),
          count,
        ]);
        assert.deepEqual(await nonZeroMetrics(relay, 'connections_ended_total'), Object.fromEntries(moods));
        assert.deepEqual(await nonZeroMetrics(relay, 'connections_paired'), {});
        assert.equal((await nonZeroMetrics(relay, 'pair_size_bytes'))['_sum'], 124_245);
        assert.equal((await nonZeroMetrics(relay, 'pair_duration_seconds'))['_count'], 1);
        assert.equal((await nonZeroMetrics(relay, 'waiting_seconds'))['_count'], 1);
      });
    }
  }

  test('count each mood, and every accepted client as ended or open', async () => {
    await using relay = await OpenRelay.start();
    const lonely = await relay.connect('websocket');
    await lonely.send(handshake(newToken(), SIDE_A));
    await metricIs(relay, 'connections_waiting', 1);
    const token = newToken();
    const sameSide = [await relay.connect('tcp'), await relay.connect('tcp')];
    for (const client of sameSide) await client.send(handshake(token, SIDE_A));
    await metricIs(relay, 'connections_waiting', 3);
    const partner = await relay.connect('tcp');
    await partner.send(handshake(token, SIDE_B));
    await partner.until(3);
    const impatient = await relay.connect('tcp');
    await impatient.send(`${handshake(newToken(), SIDE_C)}early`);
    const errory = await relay.connect('tcp');
    await errory.send('please relay nothing\n');
    const empty = await relay.connect('tcp');
    empty.end();
    await Promise.all([impatient.closed, errory.closed, empty.closed]);
    await metricIs(relay, 'connections_open', 3);
    const limit = (await scrape(relay.statusUrl)).get('transit_relay_connections_limit');
    assert.deepEqual(await nonZeroMetrics(relay, 'connections_'), {
      'accepted_total{transport="tcp"}': 6,
      'accepted_total{transport="websocket"}': 1,
      'ended_total{mood="redundant",transport="tcp"}': 1,
      'ended_total{mood="impatient",transport="tcp"}': 1,
      'ended_total{mood="errory",transport="tcp"}': 1,
      'ended_total{mood="empty",transport="tcp"}': 1,
      limit,
      open: 3,
      paired: 2,
      waiting: 1,
    });
    for (const client of [lonely, partner, ...sameSide]) client.end();
    await allDisconnected(relay);
    const metrics = await scrape(relay.statusUrl);
    assert.equal(
      metrics.get('transit_relay_connections_ended_total{mood="lonely",transport="websocket"}'),
      1,
    );
    assert.equal(metrics.get('transit_relay_connections_ended_total{mood="happy",transport="tcp"}'), 2);
  });

  test('are served when the relay is full, and count neither scrapes nor health probes', async () => {
    await using relay = await OpenRelay.start({ RELAY_MAX_CONNECTIONS: '50' });
    const others = await Promise.all(Array.from({ length: 50 }, () => relay.connect('tcp')));
    for (const client of others) await client.send(handshake(newToken(), SIDE_A));
    await metricIs(relay, 'connections_waiting', 25);
    await metricIs(relay, 'connections_rejected_total{reason="waiting"}', 25);
    const full = await Promise.all(Array.from({ length: 25 }, () => relay.connect('tcp')));
    await metricIs(relay, 'connections_open', 50);
    const before = await nonZeroMetrics(relay, 'connections_');
    for (const path of ['livez', 'readyz', 'healthz', 'status.json', 'metrics'])
      assert.equal((await fetch(`${relay.statusUrl}/${path}`)).status, 200, path);
    // The transfers of the probes succeed, but clients are rejected.
    const { report } = await relay.check('transfer');
    assert.match(report.problem ?? '', /^clients are rejected: limit of waiting clients reached/u);
    assert.ok(report.transfers?.every(({ ok }) => ok));
    assert.deepEqual(await nonZeroMetrics(relay, 'connections_'), before);
    for (const name of ['pairs_made', 'relayed_bytes', 'handshake_failures', 'pair_size_bytes_count'])
      assert.deepEqual(await nonZeroMetrics(relay, name), {}, name);
    for (const client of full) client.end();
    await Promise.all(full.map(({ closed }) => closed));
  });

  test('measure how long a sender was paused by backpressure or a rate limit', async () => {
    await using relay = await OpenRelay.start({ RELAY_PAIR_RATE: '1MB/s' });
    const [a, b] = await connectPair(relay, 'tcp', 'tcp');
    const limited = a.send(Buffer.alloc(3_000_000)).catch(() => undefined);
    await metricExceeds(relay, 'paused_seconds_total{reason="rate_limit"}', 0.2);
    assert.equal((await nonZeroMetrics(relay, 'paused_seconds_total'))['{reason="backpressure"}'], undefined);
    b.reset();
    await Promise.all([limited, allDisconnected(relay)]);
    const atRest = await nonZeroMetrics(relay, 'paused_seconds_total');
    await using unlimited = await OpenRelay.start();
    const [c, d] = await connectPair(unlimited, 'tcp', 'tcp');
    d.pause();
    const sent = c.send(Buffer.alloc(50_000_000));
    await metricExceeds(unlimited, 'buffered_bytes', 0);
    await metricExceeds(unlimited, 'paused_seconds_total{reason="backpressure"}', 0.2);
    d.resume();
    await sent;
    await d.until(50_000_003);
    await metricIs(unlimited, 'buffered_bytes', 0);
    assert.equal(
      (await nonZeroMetrics(unlimited, 'relayed_bytes_total'))['{from="tcp",to="tcp"}'],
      50_000_000,
    );
    // No direction of the first relay is paused any more, so its timers have stopped.
    assert.deepEqual(await nonZeroMetrics(relay, 'paused_seconds_total'), atRest);
  });

  test('stop measuring a pause when its pair ends', async () => {
    await using relay = await OpenRelay.start();
    const [a, b] = await connectPair(relay, 'tcp', 'tcp');
    b.pause();
    const sent = a.send(Buffer.alloc(50_000_000)).catch(() => undefined);
    await metricExceeds(relay, 'paused_seconds_total{reason="backpressure"}', 0);
    b.reset();
    await metricIs(relay, 'connections_paired', 0);
    a.destroy();
    await sent;
    const atRest = await nonZeroMetrics(relay, 'paused_seconds_total');
    assert.deepEqual(await nonZeroMetrics(relay, 'paused_seconds_total'), atRest);
  });

  test('contain the quota, the usage records, and the state of the relay', async (context) => {
    const directory = await scratch(context);
    await using relay = await OpenRelay.start({
      RELAY_USAGE_DB: join(directory, 'usage.sqlite'),
      RELAY_QUOTA: '1GB/month',
      RELAY_QUOTA_COUNTS: 'in+out',
    });
    const [a, b] = await connectPair(relay, 'tcp', 'websocket');
    await a.send(Buffer.alloc(1_000_000));
    await b.until(1_000_003);
    await metricIs(relay, 'quota_used_bytes', 2_000_000);
    const quota = await nonZeroMetrics(relay, 'quota_');
    assert.equal(quota['limit_bytes'], 1e9);
    const status = await relay.status();
    assert.equal(quota['reset_timestamp_seconds'], Date.parse(status.quota?.resets ?? '') / 1000);
    assert.deepEqual(await nonZeroMetrics(relay, 'ready'), { '': 1 });
    const aborted = new AbortController();
    const drained = relay.relay.drain(aborted.signal);
    await metricIs(relay, 'ready', 0);
    await metricIs(relay, 'draining', 1);
    a.end();
    b.end();
    await drained;
    await metricIs(relay, 'usage_records_written_total{output="database"}', 1);
    await metricIs(relay, 'usage_records_queued{output="database"}', 0);
  });

  test('contain the size of the usage database and the free space on its disk', async (context) => {
    await using without = await OpenRelay.start();
    assert.deepEqual(await nonZeroMetrics(without, 'usage_database_'), {});
    const directory = await scratch(context);
    const path = join(directory, 'usage.sqlite');
    await using relay = await OpenRelay.start({ RELAY_USAGE_DB: path });
    await metricIs(relay, 'usage_database_size_bytes', bytesOf(path));
    const [a, b] = await connectPair(relay, 'tcp', 'tcp');
    a.end();
    b.end();
    await metricIs(relay, 'usage_records_written_total{output="database"}', 1);
    await metricIs(relay, 'usage_database_size_bytes', bytesOf(path));
    const { bavail, bsize } = statfsSync(directory);
    const free = (await scrape(relay.statusUrl)).get('transit_relay_usage_database_free_bytes') ?? 0;
    assert.ok(Math.abs(free - bavail * bsize) < 0.1 * bavail * bsize, `${free} bytes`);
  });

  test('contain when certificates expire, and whether they can be replaced, without the paths of their files', async (context) => {
    const notAfter = new Date('2031-02-03T04:05:06Z');
    const directory = await CertificateDirectory.open(context, makeIdentity('localhost', { notAfter }));
    const { keyPath, certificatePath } = directory.files;
    await using relay = await OpenRelay.start({
      RELAY_LISTEN: `tcp:0:interface=127.0.0.1 ssl:0:interface=127.0.0.1:privateKey=${keyPath}:certKey=${certificatePath}`,
    });
    const found = async (): Promise<(readonly [name: string, value: number])[]> => {
      const metrics = await scrape(relay.statusUrl);
      for (const series of metrics.keys()) assert.ok(!series.includes(directory.path), series);
      return [...metrics]
        .filter(([series]) => /_(?:certificate_\w+|warnings)\b/u.test(series))
        .map(([series, value]) => [series.replace(/"tcp 127\.0\.0\.1:\d+"/u, '""'), value]);
    };
    const expires = [
      'transit_relay_certificate_expiry_timestamp_seconds{listener=""}',
      notAfter.getTime() / 1000,
    ] as const;
    const problem = 'transit_relay_certificate_problem{listener=""}';
    assert.deepEqual(await found(), [expires, [problem, 0], ['transit_relay_warnings', 0]]);
    writeFileSync(certificatePath, 'not a certificate');
    await relay.relay.reload();
    assert.deepEqual(await found(), [expires, [problem, 1], ['transit_relay_warnings', 1]]);
    directory.write(makeIdentity('localhost', { notAfter }));
    await relay.relay.reload();
    assert.deepEqual(await found(), [expires, [problem, 0], ['transit_relay_warnings', 0]]);
  });

  test('report an expired certificate', async (context) => {
    const [notBefore, notAfter] = [new Date('2021-02-03T04:05:06Z'), new Date('2022-02-03T04:05:06Z')];
    const identity = makeIdentity('localhost', { notBefore, notAfter });
    const { keyPath, certificatePath } = (await CertificateDirectory.open(context, identity)).files;
    await using relay = await OpenRelay.start({
      RELAY_LISTEN: `tcp:0:interface=127.0.0.1 ssl:0:interface=127.0.0.1:privateKey=${keyPath}:certKey=${certificatePath}`,
    });
    const values = Object.values(await nonZeroMetrics(relay, 'certificate_'));
    assert.deepEqual(values, [notAfter.getTime() / 1000, 1]);
    assert.deepEqual(await nonZeroMetrics(relay, 'warnings'), { '': 1 });
  });

  test('count failed requests for a certificate by ACME', async (context) => {
    await using without = await OpenRelay.start();
    assert.deepEqual(await nonZeroMetrics(without, 'acme_'), {});
    await using relay = await OpenRelay.start({
      RELAY_LISTEN: 'tcp:0:interface=127.0.0.1 ssl:0:interface=127.0.0.1',
      RELAY_ACME_DOMAIN: 'relay.example.org',
      RELAY_ACME_EMAIL: 'operator@example.org',
      RELAY_ACME_AGREE: 'true',
      RELAY_ACME_DIRECTORY: `https://127.0.0.1:${await freePort()}/directory`,
      RELAY_ACME_STATE: await scratch(context),
    });
    await metricIs(relay, 'acme_failing', 1);
    await metricIs(relay, 'acme_failures_total', 1);
    // There is no certificate whose expiry could be reported.
    assert.deepEqual(await nonZeroMetrics(relay, 'certificate_'), {});
  });

  test('are no more precise than the records if these are blurred', async (context) => {
    const unix = join(await scratch(context), 'relay.sock');
    await using relay = await OpenRelay.start({
      RELAY_LISTEN: `tcp:0:interface=127.0.0.1 unix:${unix}`,
      RELAY_BLUR_USAGE: '86400',
    });
    for (const from of TRANSPORTS) {
      const [a, b] = await connectPair(relay, from, 'tcp');
      await a.send(Buffer.alloc(12_345));
      await b.until(12_348);
      await metricIs(relay, `relayed_bytes_total{from="${from}",to="tcp"}`, 20_000);
      await b.send(Buffer.alloc(100));
      await a.until(103);
      await metricIs(relay, `relayed_bytes_total{from="tcp",to="${from}"}`, from === 'tcp' ? 20_000 : 10_000);
      a.end();
      b.end();
    }
    await allDisconnected(relay);
    assert.deepEqual(await nonZeroMetrics(relay, 'pair_size_bytes'), {});
    assert.deepEqual(await nonZeroMetrics(relay, 'waiting_seconds'), {});
    assert.deepEqual(await nonZeroMetrics(relay, 'pair_duration_seconds'), {});
  });
});
