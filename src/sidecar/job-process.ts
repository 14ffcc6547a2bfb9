import type { JobResponse, JobRequest, Jobs } from './job-pool.ts';
import { runSnapshotCheck } from './snapshots/snapshot-check.ts';
import { takeSnapshot } from './snapshots/snapshot-job.ts';
import { aggregate, csvPage, totals } from './usage/usage-job.ts';

const JOBS: {
  readonly [Name in keyof Jobs]: (
    task: Jobs[Name]['task'],
  ) => Jobs[Name]['outcome'] | Promise<Jobs[Name]['outcome']>;
} = { aggregate, csvPage, totals, checkSnapshot: runSnapshotCheck, takeSnapshot };

async function runJob({ name, task }: JobRequest): Promise<JobResponse<unknown>> {
  try {
    const job: (task: never) => unknown = JOBS[name];
    // The types of `JobPool.run` see that a job gets the task that it takes.
    const outcome: unknown = await Reflect.apply(job, undefined, [task]);
    return { kind: 'done', outcome };
  } catch (error) {
    const { message, stack = '' } = error instanceof Error ? error : new Error(String(error));
    return { kind: 'failed', message, stack };
  }
}

/**
 * Entry of a job process. It ends when its parent disconnects or is gone, and at no signal to its process group: the parent
 * gets that one too, and decides.
 */
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit());
process.on('message', (request: JobRequest) => {
  // A parent that is gone is no fault: 'disconnect' follows.
  void runJob(request).then((said) => process.send?.(said, () => undefined));
});
