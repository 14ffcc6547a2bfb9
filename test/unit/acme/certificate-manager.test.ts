import assert from 'node:assert/strict';
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { CertificateManager } from '../../../src/acme/certificate-manager.ts';
import type { IssuedCertificate, OrderTask } from '../../../src/acme/order-messages.ts';
import { OrderError } from '../../../src/acme/order-runner.ts';
import { StateDirectory } from '../../../src/acme/state-directory.ts';
import { AcmeChallenges } from '../../../src/transport/acme-challenges.ts';
import { ReloadableCredentials } from '../../../src/transport/tls-credentials.ts';
import { makeIdentity } from '../../support/certificates.ts';
import { scratch, until } from '../../support/scratch.ts';

const DOMAIN = 'relay.example.org';
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const LIFETIME_MS = 90 * DAY_MS;

/** A manager with a certificate authority whose answers the test chooses, and a clock that the test moves. */
class Fixture {
  readonly path: string;
  readonly events: string[] = [];
  readonly tasks: OrderTask[] = [];
  nowMs = Math.floor(Date.now() / 1000) * 1000;
  /** What the certificate authority does. */
  answer: (signal: AbortSignal) => Promise<IssuedCertificate> = () => Promise.resolve(this.issue());

  constructor(path: string) {
    this.path = path;
  }

  static async open(context: TestContext): Promise<Fixture> {
    return new Fixture(join(await scratch(context), 'acme'));
  }

  /** A certificate that is valid from now. */
  issue(name = DOMAIN): IssuedCertificate {
    const { certificate: chain, key } = makeIdentity(name, {
      notBefore: new Date(this.nowMs),
      notAfter: new Date(this.nowMs + LIFETIME_MS),
    });
    return { chain, key };
  }

  /** Starts a relay. */
  async start(context: TestContext, { directoryUrl = 'https://ca/dir', domains = [DOMAIN] } = {}) {
    const config = { domains, email: null, directoryUrl, statePath: this.path };
    const state = await StateDirectory.open(config);
    const wallClock = (): number => this.nowMs;
    const credentials = await ReloadableCredentials.loadIfPresent(state.files, wallClock);
    const manager = await CertificateManager.open({
      config,
      state,
      credentials,
      challenges: new AcmeChallenges(),
      hasHttpPort: false,
      order: (task, _present, signal) => {
        this.tasks.push(task);
        return this.answer(signal);
      },
      observer: {
        onIssued: (kind) => this.events.push(kind),
        onFailed: ({ failures, failure }) => this.events.push(`failed ${failures} ${failure.problem}`),
        onRetry: (failures) => this.events.push(`retry ${failures}`),
        onLocked: () => this.events.push('locked'),
      },
      wallClock,
      random: () => 0,
    });
    context.after(() => manager.close());
    manager.start();
    return { manager, credentials };
  }

  /** Waits for the next event. */
  async next(): Promise<string> {
    await until(() => this.events.length > 0);
    return this.events.shift() ?? '';
  }

  /** Minutes from now to the next order. */
  minutesTo(manager: CertificateManager): number {
    return (manager.nextOrderAt.getTime() - this.nowMs) / MINUTE_MS;
  }
}

const refused = new OrderError({ problem: 'connection', detail: '', retryAtMs: null });

/** A certificate authority that does not answer. */
function untilAborted(signal: AbortSignal): Promise<IssuedCertificate> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(refused));
  });
}

describe('a certificate', () => {
  test('is ordered if there is none, and again when a third of its lifetime is left', async (context) => {
    const fixture = await Fixture.open(context);
    const first = await fixture.start(context);
    assert.equal(await fixture.next(), 'obtained');
    assert.equal(first.credentials.expiresAt?.getTime(), fixture.nowMs + LIFETIME_MS);
    assert.equal(fixture.minutesTo(first.manager), (60 * DAY_MS) / MINUTE_MS);
    await first.manager.close();

    fixture.nowMs += 60 * DAY_MS - 1;
    const second = await fixture.start(context);
    assert.ok(fixture.minutesTo(second.manager) < 1);
    assert.equal(fixture.tasks.length, 1);
    await second.manager.close();
    fixture.nowMs += 1;
    const third = await fixture.start(context);
    assert.equal(await fixture.next(), 'renewed');
    assert.equal(third.credentials.expiresAt?.getTime(), fixture.nowMs + LIFETIME_MS);
    // The account is the same.
    assert.equal(new Set(fixture.tasks.map(({ accountKey }) => accountKey)).size, 1);
  });

  test('is ordered at once from another certificate authority or for other domains', async (context) => {
    const fixture = await Fixture.open(context);
    for (const options of [{}, { directoryUrl: 'https://other/dir' }, { domains: ['b.example.org'] }]) {
      fixture.answer = () => Promise.resolve(fixture.issue(options.domains?.[0]));
      const { manager } = await fixture.start(context, options);
      assert.equal(await fixture.next(), 'obtained');
      await manager.close();
    }
  });

  test('is not ordered again and again if the clock is wrong', async (context) => {
    const fixture = await Fixture.open(context);
    const issued = fixture.issue();
    fixture.nowMs += 400 * DAY_MS;
    fixture.answer = () => Promise.resolve(issued);
    const { manager } = await fixture.start(context);
    assert.equal(await fixture.next(), 'obtained');
    assert.equal(fixture.minutesTo(manager), (30 * DAY_MS) / MINUTE_MS);
    await manager.close();
    const again = await fixture.start(context);
    assert.equal(fixture.minutesTo(again.manager), (30 * DAY_MS) / MINUTE_MS);
    assert.equal(fixture.tasks.length, 1);
  });

  test('that lacks a domain is not used', async (context) => {
    const fixture = await Fixture.open(context);
    fixture.answer = () => Promise.resolve(fixture.issue('other.example.org'));
    const { credentials } = await fixture.start(context);
    assert.equal(await fixture.next(), 'failed 1 null');
    assert.equal(credentials.expiresAt, null);
  });

  test('that is damaged is ordered again, when the last order allows it', async (context) => {
    const fixture = await Fixture.open(context);
    const { manager } = await fixture.start(context);
    assert.equal(await fixture.next(), 'obtained');
    await manager.close();
    writeFileSync(join(fixture.path, 'certificate.pem'), 'damaged');
    const { manager: second } = await fixture.start(context);
    assert.equal(fixture.minutesTo(second), (30 * DAY_MS) / MINUTE_MS);
    second.retryNow();
    assert.equal(await fixture.next(), 'obtained');
  });
});

describe('a failed order', () => {
  test('is repeated later each time, also after restarts, and at once on request', async (context) => {
    const fixture = await Fixture.open(context);
    fixture.answer = () => Promise.reject(refused);
    const first = await fixture.start(context);
    assert.equal(await fixture.next(), 'failed 1 connection');
    assert.equal(fixture.minutesTo(first.manager), 15);
    await first.manager.close();
    const second = await fixture.start(context);
    assert.equal(fixture.minutesTo(second.manager), 15);
    assert.equal(fixture.tasks.length, 1);
    second.manager.retryNow();
    assert.deepEqual([await fixture.next(), await fixture.next()], ['retry 1', 'failed 2 connection']);
    assert.equal(fixture.minutesTo(second.manager), 30);
    fixture.answer = () => Promise.resolve(fixture.issue());
    second.manager.retryNow();
    assert.deepEqual([await fixture.next(), await fixture.next()], ['retry 2', 'obtained']);
    assert.equal(second.manager.failedOrders, 1);
    // There is nothing to repeat.
    second.manager.retryNow();
    assert.ok(fixture.minutesTo(second.manager) > 15);
  });

  test('counts if the process crashes in it', async (context) => {
    const fixture = await Fixture.open(context);
    fixture.answer = untilAborted;
    await fixture.start(context);
    await until(() => fixture.tasks.length === 1);
    const saved: unknown = JSON.parse(readFileSync(join(fixture.path, 'orders.json'), 'utf8'));
    assert.ok(typeof saved === 'object' && saved !== null && 'retry_at' in saved && 'failures' in saved);
    assert.deepEqual(
      [saved.failures, Date.parse(String(saved.retry_at))],
      [1, fixture.nowMs + 15 * MINUTE_MS],
    );
  });

  test('does not count if the relay stops, but restarts order once a minute at most', async (context) => {
    const fixture = await Fixture.open(context);
    fixture.answer = untilAborted;
    const first = await fixture.start(context);
    await until(() => fixture.tasks.length === 1);
    await first.manager.close();
    const second = await fixture.start(context);
    assert.equal(fixture.minutesTo(second.manager), 1);
    assert.deepEqual([fixture.tasks.length, fixture.events], [1, []]);
    second.manager.retryNow();
    await until(() => fixture.tasks.length === 2);
    assert.deepEqual(fixture.events, []);
  });
});

describe('the lock of the directory', () => {
  test('keeps a second relay from ordering, unless the first one has crashed', async (context) => {
    const fixture = await Fixture.open(context);
    const { manager } = await fixture.start(context);
    assert.equal(await fixture.next(), 'obtained');
    await manager.close();
    assert.equal(existsSync(join(fixture.path, 'lock')), false);
    const lock = join(fixture.path, 'lock');
    writeFileSync(lock, 'another relay');
    fixture.nowMs += 80 * DAY_MS;
    const locked = await fixture.start(context);
    assert.equal(await fixture.next(), 'locked');
    assert.equal(fixture.tasks.length, 1);
    await locked.manager.close();
    assert.equal(readFileSync(lock, 'utf8'), 'another relay');
    const crashedAt = new Date(Date.now() - 2 * MINUTE_MS);
    utimesSync(lock, crashedAt, crashedAt);
    await fixture.start(context);
    assert.equal(await fixture.next(), 'renewed');
  });

  test('makes a second relay use the certificate, and the pause after a failed order, of the first', async (context) => {
    const fixture = await Fixture.open(context);
    fixture.answer = () => Promise.reject(refused);
    const first = await fixture.start(context);
    assert.equal(await fixture.next(), 'failed 1 connection');
    const second = await fixture.start(context);
    assert.equal(fixture.minutesTo(second.manager), 15);
    fixture.answer = () => Promise.resolve(fixture.issue());
    first.manager.retryNow();
    assert.deepEqual([await fixture.next(), await fixture.next()], ['retry 1', 'obtained']);
    second.manager.retryNow();
    await until(() => second.credentials.expiresAt !== null);
    await second.manager.close();
    assert.equal(fixture.tasks.length, 2);
  });
});
