import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { JobError, JobPool } from '../../../src/sidecar/job-pool.ts';
import type { JobPoolOptions } from '../../../src/sidecar/job-pool.ts';
import { scratch } from '../../support/scratch.ts';
import { createUsageFile } from '../../support/usage-files.ts';

const ROWS = 1000;

interface Fixture {
  readonly pool: JobPool;
  /** Runs a job that reads the database. Resolves with the number of records. */
  readonly count: (options?: Parameters<JobPool['run']>[2]) => Promise<number>;
  /** Runs a job that throws, because it has no source. */
  readonly fail: () => Promise<unknown>;
}

async function open(context: TestContext, options: Partial<JobPoolOptions> = {}): Promise<Fixture> {
  const directory = await scratch(context);
  const databasePath = join(directory, 'usage.sqlite');
  createUsageFile(databasePath, { rows: ROWS });
  const pool = new JobPool({ maxProcesses: 1, ...options });
  context.after(() => pool.close());
  const source = { databasePath, scratchDirectory: join(directory, 'scratch') };
  const task = { source, by: 'day', from: 0, to: 2_000_000_000, now: 2_000_000_000 } as const;
  return {
    pool,
    count: async (jobOptions) => {
      const outcome = await pool.run('aggregate', task, jobOptions);
      assert.equal(outcome.kind, 'ok');
      return outcome.rows.reduce((sum, { records }) => sum + records, 0);
    },
    fail: () => pool.run('aggregate', JSON.parse('{}')),
  };
}

const ABORTED = { name: 'AbortError' };

describe('a pool of job processes', () => {
  for (const maxProcesses of [1, 3]) {
    test(`gives each job its own outcome with ${maxProcesses} at most, also after a job has failed`, async (context) => {
      const { count, fail } = await open(context, { maxProcesses });
      const jobs = [count(), fail(), count(), count(), fail(), count()];
      const outcomes = (await Promise.allSettled(jobs)).map((result) =>
        result.status === 'fulfilled' ? result.value : result.reason,
      );
      for (const at of [1, 4]) {
        const error: unknown = outcomes[at];
        assert.ok(error instanceof JobError);
        assert.match(error.message, /undefined/u);
        // The stack is that of the job.
        assert.match(error.stack ?? '', /usage-source/u);
      }
      assert.deepEqual(
        [0, 2, 3, 5].map((at) => outcomes[at]),
        [ROWS, ROWS, ROWS, ROWS],
      );
    });
  }

  test('drops a queued job that is aborted, and ignores the outcome of a running one', async (context) => {
    const { count } = await open(context);
    const [running, queued] = [new AbortController(), new AbortController()];
    const first = count({ signal: running.signal });
    const second = count({ signal: queued.signal, onAbort: 'kill' });
    const third = count();
    running.abort();
    queued.abort();
    await assert.rejects(first, ABORTED);
    await assert.rejects(second, ABORTED);
    assert.equal(await third, ROWS);
    await assert.rejects(count({ signal: AbortSignal.abort() }), ABORTED);
  });

  test('kills the process of a job if that is asked for, and starts another for the next', async (context) => {
    const { count } = await open(context);
    const abort = new AbortController();
    const killed = count({ signal: abort.signal, onAbort: 'kill' });
    const next = count();
    abort.abort();
    await assert.rejects(killed, ABORTED);
    assert.equal(await next, ROWS);
  });

  test('kills a job that takes too long', async (context) => {
    const { count } = await open(context, { jobTimeoutMs: 1 });
    await assert.rejects(
      count(),
      (error) => error instanceof JobError && /timed out after 0.001 s/u.test(error.message),
    );
  });

  test('aborts running, queued and later jobs when it is closed', async (context) => {
    const { pool, count } = await open(context);
    assert.equal(await count(), ROWS);
    const jobs = [count(), count()].map((job) => assert.rejects(job, ABORTED));
    await pool.close();
    await Promise.all(jobs);
    await assert.rejects(count(), ABORTED);
    await pool.close();
  });
});
