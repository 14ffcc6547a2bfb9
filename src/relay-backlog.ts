import type { Reception } from './net/reception.ts';

/** How long a drain goes on taking in those who come faster than they can be told to go, in milliseconds. */
const BACKLOG_MS = 1000;

/** Takes in whoever the kernel has let come already, so that they can be told: one for each turn of the event loop. */
export async function emptyBacklog(reception: Reception): Promise<void> {
  const deadline = performance.now() + BACKLOG_MS;
  for (let before = -1; before !== reception.arrived && performance.now() < deadline;) {
    before = reception.arrived;
    await nextTurn();
    await nextTurn();
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
