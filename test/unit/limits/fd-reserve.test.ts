import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { errorCode } from '../../../src/process/errors.ts';
import { fdLimit } from '../../../src/limits/capacity.ts';
import { FdReserve } from '../../../src/limits/fd-reserve.ts';
import { SIDE_A, handshake, newToken } from '../../support/bytes.ts';
import { TestRelay } from '../../support/test-relay.ts';
import { findProgram } from '../../support/programs.ts';
import { until } from '../../support/scratch.ts';

const CANNOT_LIMIT = findProgram('prlimit') === null ? 'needs prlimit: apt-get install util-linux' : false;

/** Free descriptors in the tests that use them all. */
const FREE = 40;

/** Descriptors that the reserve keeps open, and that it releases each time it finds no free one. */
const RESERVED_FDS = 8;
const RELEASED_FDS = 2;

/** Descriptors of this process, the lowest first. Needs a free one. */
function descriptors(): number[] {
  const listed = readdirSync('/proc/self/fd').map(Number);
  return listed.filter(isOpen).toSorted((one, other) => one - other);
}

/** False for the descriptor of the directory listing itself. */
function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

/** Sets the descriptor limit of this process. Disposing of it needs descriptors. */
function limitTo(limit: number): Disposable {
  const before = fdLimit();
  const set = (soft: number): void => {
    execFileSync('prlimit', ['--pid', String(process.pid), `--nofile=${soft}:`]);
  };
  set(limit);
  return { [Symbol.dispose]: () => set(before) };
}

function limitAboveAll(): Disposable {
  return limitTo((descriptors().at(-1) ?? 0) + FREE);
}

/** Opens all free descriptors. */
class OpenFiles implements Disposable {
  readonly #fds: number[] = [];

  /** Opens at most this many, and returns how many it opened. */
  take(maxCount = Number.POSITIVE_INFINITY): number {
    const before = this.#fds.length;
    try {
      while (this.#fds.length - before < maxCount) this.#fds.push(openSync('/dev/null', 'r'));
    } catch (error) {
      assert.equal(errorCode(error), 'EMFILE');
    }
    return this.#fds.length - before;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}

/** A reserve and the events that it has reported. */
class Fixture implements Disposable {
  readonly events: string[] = [];
  readonly reserve = new FdReserve({
    onExhausted: (code) => {
      this.events.push(code);
      this.#exhausted.resolve();
    },
    onRecovered: () => {
      this.events.push('recovered');
      this.#recovered.resolve();
    },
  });
  readonly #exhausted = Promise.withResolvers<void>();
  readonly #recovered = Promise.withResolvers<void>();

  get exhausted(): Promise<void> {
    return this.#exhausted.promise;
  }

  get recovered(): Promise<void> {
    return this.#recovered.promise;
  }

  [Symbol.dispose](): void {
    this.reserve.close();
  }
}

describe('the reserve of descriptors', { skip: CANNOT_LIMIT }, () => {
  test('reports nothing while there are free descriptors, and keeps a few open', () => {
    const before = descriptors();
    using fixture = new Fixture();
    for (let checks = 0; checks < 3; checks += 1) {
      fixture.reserve.check();
      assert.equal(descriptors().length, before.length + RESERVED_FDS);
    }
    assert.equal(fixture.reserve.isExhausted, false);
    fixture.reserve.close();
    assert.deepEqual(descriptors(), before);
    assert.deepEqual(fixture.events, []);
  });

  test('reports exhaustion, releases a few descriptors for new connections, and reports once that there are free ones again', () => {
    const before = descriptors();
    using _ = limitAboveAll();
    using fixture = new Fixture();
    using files = new OpenFiles();
    fixture.reserve.check();
    assert.ok(files.take() > 0);
    const opened: number[] = [];
    for (let checks = 0; checks < RESERVED_FDS / RELEASED_FDS + 1; checks += 1) {
      fixture.reserve.check();
      assert.equal(fixture.reserve.isExhausted, true);
      opened.push(files.take());
    }
    // It releases more each time, until the reserve is empty.
    assert.deepEqual(opened, [2, 2, 2, 2, 0]);
    files[Symbol.dispose]();
    fixture.reserve.check();
    fixture.reserve.check();
    assert.equal(fixture.reserve.isExhausted, false);
    assert.deepEqual(fixture.events, ['EMFILE', 'EMFILE', 'EMFILE', 'EMFILE', 'EMFILE', 'recovered']);
    assert.equal(descriptors().length, before.length + RESERVED_FDS);
  });

  test('does not count its own descriptors as free', () => {
    using _ = limitAboveAll();
    using fixture = new Fixture();
    using files = new OpenFiles();
    fixture.reserve.check();
    files.take();
    for (let checks = 0; checks < 3; checks += 1) fixture.reserve.check();
    assert.deepEqual(fixture.events, ['EMFILE', 'EMFILE', 'EMFILE']);
    assert.equal(files.take(), RELEASED_FDS);
  });

  test('releases descriptors if the limit was lowered below the open ones', () => {
    // Lower than the reserved ones, and free again when the limit is raised.
    const low = new OpenFiles();
    low.take(FREE);
    const before = descriptors();
    using fixture = new Fixture();
    fixture.reserve.check();
    // The reserved descriptors stay the same.
    for (let checks = 0; checks < RESERVED_FDS; checks += 1) fixture.reserve.check();
    const lowest = descriptors().find((fd) => !before.includes(fd)) ?? 0;
    using stack = new DisposableStack();
    stack.use(limitTo(lowest + RELEASED_FDS));
    stack.use(low);
    using files = new OpenFiles();
    files.take();
    fixture.reserve.check();
    assert.equal(fixture.reserve.isExhausted, true);
    assert.equal(files.take(), RELEASED_FDS);
  });

  test('checks periodically', async () => {
    using _ = limitAboveAll();
    using fixture = new Fixture();
    using files = new OpenFiles();
    fixture.reserve.start();
    files.take();
    await fixture.exhausted;
    files[Symbol.dispose]();
    await fixture.recovered;
    assert.deepEqual(new Set(fixture.events), new Set(['EMFILE', 'recovered']));
  });
});

for (const standardStreams of [false, true]) {
  const stream = standardStreams ? 'a Node stream' : 'a libuv stream';
  test(`without free descriptors, ${stream} gets "busy" and is closed and counted, below every limit`, async (context) => {
    const relay = await TestRelay.open({ standardStreams });
    context.after(() => relay.close());
    relay.admission.isOutOfDescriptors = true;
    const client = await relay.connect('tcp');
    await client.closed;
    assert.equal(client.received.toString(), 'busy\n');
    assert.deepEqual([relay.admission.rejected.connections, relay.admission.connections], [1, 0]);
    relay.admission.isOutOfDescriptors = false;
    await (await relay.connect('tcp')).send(handshake(newToken(), SIDE_A));
    await until(() => relay.sessions.liveCounts().waiting === 1);
    assert.deepEqual(relay.summaries, []);
  });
}
