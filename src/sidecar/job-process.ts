import { readAssets } from './dashboard-files.ts';
import type { JobResponse, JobRequest, Jobs } from './job-pool.ts';
import { checkNewestSnapshot } from './snapshots/snapshot-check.ts';
import { takeSnapshot } from './snapshots/snapshot-job.ts';
import { aggregate, csvPage, totals } from './usage/usage-job.ts';

const JOBS: {
  readonly [Name in keyof Jobs]: (
    task: Jobs[Name]['task'],
  ) => Jobs[Name]['outcome'] | Promise<Jobs[Name]['outcome']>;
} = { aggregate, csvPage, totals, checkSnapshot: checkNewestSnapshot, readAssets, takeSnapshot };

async function runJob({ name, task }: JobRequest): Promise<JobResponse<unknown>> {
  try {
    const job: (task: never) => unknown = JOBS[name];
    // The types of `JobPool.run` ensure that each job gets its own kind of task.
    const outcome: unknown = await Reflect.apply(job, undefined, [task]);
    return { kind: 'done', outcome };
  } catch (error) {
    const { message, stack = '' } = error instanceof Error ? error : new Error(String(error));
    return { kind: 'failed', message, stack };
  }
}

/**
 * Entry of a job process. It exits when its parent disconnects or dies. It ignores signals to its process
 * group: the parent gets them too, and decides.
 */
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit());
process.on('message', (request: JobRequest) => {
  // A dead parent is not an error: 'disconnect' follows.
  void runJob(request).then((response) => process.send?.(response, () => undefined));
});
