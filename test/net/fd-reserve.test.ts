import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { errorCode } from '../../src/process/error-code.ts';
import { fdLimit } from '../../src/limits/capacity.ts';
import { FdReserve } from '../../src/limits/fd-reserve.ts';
import { SIDE_A, handshake, newToken } from '../support/bytes.ts';
import { TestRelay } from '../support/test-relay.ts';
import { findProgram } from '../support/programs.ts';
import { until } from '../support/scratch.ts';

const CANNOT_LIMIT = findProgram('prlimit') === null ? 'needs prlimit: apt-get install util-linux' : false;

/** Descriptors that there are to take, in the tests that take them all. */
const FREE = 40;

/** What the watch keeps, and what it leaves to newcomers each time it looks in vain. */
const SPARES = 8;
const GIVEN_UP = 2;

/** Descriptors of this process, the lowest first. There has to be one for the look. */
function descriptors(): number[] {
  const listed = readdirSync('/proc/self/fd').map(Number);
  return listed.filter(isOpen).toSorted((one, other) => one - other);
}

/** False for the one of the list itself. */
function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

/** Sets the limit of open files of this very process. Disposing of it needs descriptors. */
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

/** Somebody who takes all descriptors there are. */
class Hoard implements Disposable {
  readonly #held: number[] = [];

  /** Returns how many it got, of so many that it wants. */
  take(most = Number.POSITIVE_INFINITY): number {
    const before = this.#held.length;
    try {
      while (this.#held.length - before < most) this.#held.push(openSync('/dev/null', 'r'));
    } catch (error) {
      assert.equal(errorCode(error), 'EMFILE');
    }
    return this.#held.length - before;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#held.splice(0)) closeSync(fd);
  }
}

/** A watch, and what it says. */
class Watched implements Disposable {
  readonly said: string[] = [];
  readonly watch = new FdReserve({
    onExhausted: (code) => {
      this.said.push(code);
      this.#out.resolve();
    },
    onRecovered: () => {
      this.said.push('back');
      this.#back.resolve();
    },
  });
  readonly #out = Promise.withResolvers<void>();
  readonly #back = Promise.withResolvers<void>();

  get out(): Promise<void> {
    return this.#out.promise;
  }

  get back(): Promise<void> {
    return this.#back.promise;
  }

  [Symbol.dispose](): void {
    this.watch.close();
  }
}

describe('the watch over descriptors', { skip: CANNOT_LIMIT }, () => {
  test('says nothing while there are some, and keeps a few', () => {
    const before = descriptors();
    using watched = new Watched();
    for (let looks = 0; looks < 3; looks += 1) {
      watched.watch.check();
      assert.equal(descriptors().length, before.length + SPARES);
    }
    assert.equal(watched.watch.isExhausted, false);
    watched.watch.close();
    assert.deepEqual(descriptors(), before);
    assert.deepEqual(watched.said, []);
  });

  test('says so while there are none, leaves a few to newcomers, and says once that there are some again', () => {
    const before = descriptors();
    using _ = limitAboveAll();
    using watched = new Watched();
    using hoard = new Hoard();
    watched.watch.check();
    assert.ok(hoard.take() > 0);
    const given: number[] = [];
    for (let looks = 0; looks < SPARES / GIVEN_UP + 1; looks += 1) {
      watched.watch.check();
      assert.equal(watched.watch.isExhausted, true);
      given.push(hoard.take());
    }
    // Whoever takes them, there are more; but not for ever.
    assert.deepEqual(given, [2, 2, 2, 2, 0]);
    hoard[Symbol.dispose]();
    watched.watch.check();
    watched.watch.check();
    assert.equal(watched.watch.isExhausted, false);
    assert.deepEqual(watched.said, ['EMFILE', 'EMFILE', 'EMFILE', 'EMFILE', 'EMFILE', 'back']);
    assert.equal(descriptors().length, before.length + SPARES);
  });

  test('does not take its own spares for room', () => {
    using _ = limitAboveAll();
    using watched = new Watched();
    using hoard = new Hoard();
    watched.watch.check();
    hoard.take();
    for (let looks = 0; looks < 3; looks += 1) watched.watch.check();
    assert.deepEqual(watched.said, ['EMFILE', 'EMFILE', 'EMFILE']);
    assert.equal(hoard.take(), GIVEN_UP);
  });

  test('leaves room below a limit that was lowered under what is open', () => {
    // Lower than the spares, and free again when the limit is to be raised.
    const low = new Hoard();
    low.take(FREE);
    const before = descriptors();
    using watched = new Watched();
    watched.watch.check();
    // Its spares do not wander while it looks.
    for (let looks = 0; looks < SPARES; looks += 1) watched.watch.check();
    const lowest = descriptors().find((fd) => !before.includes(fd)) ?? 0;
    using stack = new DisposableStack();
    stack.use(limitTo(lowest + GIVEN_UP));
    stack.use(low);
    using hoard = new Hoard();
    hoard.take();
    watched.watch.check();
    assert.equal(watched.watch.isExhausted, true);
    assert.equal(hoard.take(), GIVEN_UP);
  });

  test('looks by itself', async () => {
    using _ = limitAboveAll();
    using watched = new Watched();
    using hoard = new Hoard();
    watched.watch.start();
    hoard.take();
    await watched.out;
    hoard[Symbol.dispose]();
    await watched.back;
    assert.deepEqual(new Set(watched.said), new Set(['EMFILE', 'back']));
  });
});

for (const standardStreams of [false, true]) {
  const what = standardStreams ? 'an ordinary stream' : 'a handle';
  test(`without descriptors, ${what} is told "busy", closed and counted, whatever room there is`, async (context) => {
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
