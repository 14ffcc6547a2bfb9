import { readFileSync, readdirSync } from 'node:fs';

/** CPU time of all threads of a process so far, in milliseconds. More precise than /proc/PID/stat, which counts in 10 ms. */
export function cpuMilliseconds(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [running = ''] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
    nanoseconds += Number(running);
  }
  return nanoseconds / 1e6;
}
