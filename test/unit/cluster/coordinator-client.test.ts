import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  CoordinatorClient,
  CoordinatorError,
  coordinatorHint,
} from '../../../src/cluster/coordinator-client.ts';
import type { Script } from '../../../src/cluster/coordinator-client.ts';
import { NODE_RUNTIME } from '../../../src/cluster/runtime.ts';
import type { Runtime } from '../../../src/cluster/runtime.ts';
import { parseCoordinatorUrl } from '../../../src/config/cluster-config.ts';
import { HostileRedis, bulk, honest } from '../../support/hostile-redis.ts';
import type { Answer } from '../../support/hostile-redis.ts';

const SOURCE = 'return 1';
const SCRIPT: Script = { source: SOURCE, sha1: createHash('sha1').update(SOURCE).digest('hex') };

const CLUSTER_ID = 'this cluster';

const SILENCE = 'no reply';

const error = (text: string): string => `-${text}\r\n`;

const isFor = (name: string, command: readonly string[]): boolean => command[0] === name;

interface Fixture {
  readonly redis: HostileRedis;
  readonly client: CoordinatorClient;
  /** Commands that the coordinator got, in order. */
  readonly commands: string[];
  /** `up`, `mismatch`, or the reason that it is down. */
  readonly events: string[];
  /** Resolves when this event has come, now or earlier. */
  readonly until: (event: string) => Promise<void>;
}

/** A client of a coordinator that gives these answers; the usual ones for null. `login` is part of its URL. */
async function open(
  context: TestContext,
  answer: Answer = () => null,
  login = '',
  path = '',
  runtime = NODE_RUNTIME,
): Promise<Fixture> {
  const redis = await HostileRedis.start(context);
  const commands: string[] = [];
  redis.answer = (command) => {
    commands.push(command.join(' '));
    const given = answer(command);
    if (given === SILENCE) return null;
    return given ?? honest(command);
  };
  const events: string[] = [];
  const watchers = new Map<string, () => void>();
  const notify = (event: string): void => {
    events.push(event);
    watchers.get(event)?.();
  };
  const address = parseCoordinatorUrl(redis.url.replace('//', `//${login}`) + path);
  const callbacks = {
    onUp: () => notify('up'),
    onDown: notify,
    onSecretMismatch: () => notify('mismatch'),
  };
  const client = new CoordinatorClient(address, CLUSTER_ID, [SCRIPT], callbacks, runtime);
  context.after(() => client.close());
  const until = (event: string): Promise<void> =>
    new Promise((resolve) => {
      if (events.includes(event)) resolve();
      else watchers.set(event, resolve);
    });
  return { redis, client, commands, events, until };
}

describe('the client of the coordinator', () => {
  test('logs in, loads its scripts and writes, before it is up', async (context) => {
    const { client, commands, events, until } = await open(context, () => null, 'user:secret@', '/3');
    assert.equal(client.isUp, false);
    await assert.rejects(client.request(['PING']), { code: 'ENOTCONN' });
    await until('up');
    assert.equal(client.isUp, true);
    assert.deepEqual(events, ['up']);
    assert.deepEqual(commands, [
      'AUTH user secret',
      'SELECT 3',
      'CLIENT SETNAME transit-relay',
      `SCRIPT LOAD ${SOURCE}`,
      `SET transit-relay:test ${CLUSTER_ID} NX GET PX 10000`,
    ]);
    assert.equal(client.commands, 2);
  });

  test('sends neither a password nor a database number that is not set', async (context) => {
    const { commands, until } = await open(context);
    await until('up');
    assert.equal(commands[0], 'CLIENT SETNAME transit-relay');
  });

  test('reports a rejected login by its code, and tries again', async (context) => {
    let isAccepted = false;
    const { client, events, until } = await open(
      context,
      (command) =>
        isFor('AUTH', command) && !isAccepted ? error('WRONGPASS invalid username-password pair') : null,
      ':secret@',
    );
    await until('WRONGPASS');
    assert.equal(client.isUp, false);
    isAccepted = true;
    await until('up');
    assert.deepEqual(events, ['WRONGPASS', 'up']);
  });

  test('assigns replies to commands in order', async (context) => {
    const { client, until } = await open(context, (command) =>
      isFor('ECHO', command) ? bulk(command[1] ?? '') : null,
    );
    await until('up');
    const texts = Array.from({ length: 100 }, (_, index) => `text ${index}`);
    assert.deepEqual(await Promise.all(texts.map((text) => client.request(['ECHO', text]))), texts);
    assert.equal(await client.runScript(SCRIPT, ['key'], ['argument']), null);
    assert.equal(client.commands, 2 + 101);
  });

  test('rejects commands beyond a limit, which it neither sends nor counts', async (context) => {
    const { client, commands, until } = await open(context, (command) =>
      isFor('ECHO', command) ? SILENCE : null,
    );
    await until('up');
    const pending = Promise.allSettled(Array.from({ length: 10_000 }, () => client.request(['ECHO'])));
    await assert.rejects(client.request(['ECHO']), { code: 'EAGAIN' });
    assert.equal(client.commands, 10_002);
    assert.equal(client.isUp, true);
    await client.close();
    for (const result of await pending) {
      assert.equal(result.status, 'rejected');
      assert.equal(result.reason.code, 'ECANCELED');
    }
    assert.ok(commands.length <= 10_003);
  });

  test('reconnects after an error reply, and rejects the commands that are pending', async (context) => {
    const { client, redis, events, until } = await open(context, (command) =>
      isFor('ECHO', command) ? SILENCE : isFor('EVALSHA', command) ? error('NOSCRIPT none') : null,
    );
    await until('up');
    const pending = client.request(['ECHO']);
    const failing = client.runScript(SCRIPT, [], []);
    await assert.rejects(failing, { code: 'NOSCRIPT' });
    await assert.rejects(pending, { code: 'NOSCRIPT' });
    await until('NOSCRIPT');
    // No health check was sent on the closed connection.
    assert.equal(client.commands, 4);
    events.length = 0;
    await until('up');
    assert.equal(redis.connections, 2);
  });

  test('doubles its delay with each failed connection, and starts over after a stable one', async (context) => {
    const delaysMs: number[] = [];
    let nowMs = 0;
    const runtime: Runtime = {
      ...NODE_RUNTIME,
      now: () => nowMs,
      random: () => 0,
      setTimeout: (callback, ms) => {
        // The time limit of a connection, or the pause between two health checks.
        if (ms >= 4000) return NODE_RUNTIME.setTimeout(callback, ms);
        delaysMs.push(ms);
        return NODE_RUNTIME.setTimeout(callback, 0);
      },
    };
    const answer: Answer = (command) =>
      (isFor('CLIENT', command) && delaysMs.length < 7) || isFor('ECHO', command) ? error('ERR no') : null;
    const { client, events, until } = await open(context, answer, '', '', runtime);
    await until('up');
    assert.deepEqual(delaysMs, [100, 200, 400, 800, 1600, 2500, 2500]);
    for (const [upMs, delayMs] of [
      [10_001, 50],
      [10_000, 100],
    ] as const) {
      nowMs += upMs;
      events.length = 0;
      await assert.rejects(client.request(['ECHO']));
      await until('up');
      assert.equal(delaysMs.at(-1), delayMs);
    }
  });

  for (const [what, answer] of [
    ['a reply to no command', (command) => (isFor('SET', command) ? '$-1\r\n+OK\r\n' : null)],
    ['a reply that is not of the protocol', (command) => (isFor('SET', command) ? '?\r\n' : null)],
    ['a health check with a reply of another type', (command) => (isFor('SET', command) ? ':1\r\n' : null)],
    ['another script', (command) => (isFor('SCRIPT', command) ? bulk('0'.repeat(40)) : null)],
  ] as const satisfies readonly (readonly [string, Answer])[]) {
    test(`closes the connection after ${what}`, async (context) => {
      const { client, until } = await open(context, answer);
      await until('EPROTO');
      assert.equal(client.isUp, false);
    });
  }

  test('closes the connection after five seconds without a reply, also after earlier replies', async (context) => {
    const { client, until } = await open(context, (command) => (isFor('ECHO', command) ? SILENCE : null));
    await until('up');
    const { timers } = context.mock;
    timers.enable({ apis: ['setTimeout'] });
    const pending = client.request(['ECHO']).catch((failure: unknown) => failure);
    timers.tick(4999);
    assert.equal(await Promise.race([pending, nextTurn('pending')]), 'pending');
    timers.tick(1);
    timers.reset();
    const failure = await Promise.race([pending, nextTurn('pending')]);
    assert.ok(failure instanceof CoordinatorError);
    assert.equal(failure.code, 'ETIMEDOUT');
  });

  test('stays connected to a coordinator without memory, but reports it', async (context) => {
    let isFull = true;
    const { client, redis, events, until } = await open(context, (command) =>
      isFor('SET', command) && isFull
        ? error("OOM command not allowed when used memory > 'maxmemory'.")
        : null,
    );
    await until('OOM');
    assert.equal(client.isUp, false);
    assert.equal(await client.request(['GET', 'key']), null);
    isFull = false;
    await until('up');
    assert.deepEqual(events, ['OOM', 'up']);
    assert.equal(redis.connections, 1);
  });

  test('reports a coordinator whose health check takes too long', async (context) => {
    let now = 0;
    context.mock.method(performance, 'now', () => now);
    const { client, until } = await open(context, (command) => {
      if (isFor('SET', command)) now += 501;
      return null;
    });
    await until('ETIMEDOUT');
    assert.equal(client.isUp, false);
  });

  test('checks at once whether a coordinator works that was reported as unhealthy', async (context) => {
    const { client, events, commands, until } = await open(context);
    await until('up');
    events.length = 0;
    client.markUnhealthy('ETIMEDOUT');
    assert.deepEqual([client.isUp, events], [false, ['ETIMEDOUT']]);
    await until('up');
    assert.equal(commands.filter((command) => command.startsWith('SET')).length, 2);
  });

  test('reports a cluster with another secret', async (context) => {
    const { client, until } = await open(context, (command) =>
      isFor('SET', command) ? bulk('another cluster') : null,
    );
    await until('mismatch');
    await until('up');
    assert.equal(client.isUp, true);
  });

  test('sends nothing and calls nothing once it is closed', async (context) => {
    const { client, commands, events, until } = await open(context);
    await until('up');
    await client.close();
    assert.equal(client.isUp, false);
    const sent = commands.length;
    await assert.rejects(client.request(['PING']), CoordinatorError);
    assert.equal(commands.length, sent);
    assert.deepEqual(events, ['up']);
  });
});

test('an error has a hint if the operator has to trust the certificate authority', () => {
  assert.match(coordinatorHint('DEPTH_ZERO_SELF_SIGNED_CERT') ?? '', /NODE_EXTRA_CA_CERTS/u);
  assert.equal(coordinatorHint('ECONNREFUSED'), undefined);
  assert.equal(new CoordinatorError('WRONGPASS').message, 'the coordinator: WRONGPASS');
});
