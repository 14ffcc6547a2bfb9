import { UsageDatabase } from '../../src/usage/usage-database.ts';
import type { UsageRecord } from '../../src/usage/record.ts';

/** A pause between two transactions, in milliseconds. */
const PAUSE_MS = 10;

const MOODS = ['happy', 'lonely', 'errory'] as const;

// Writes to a database with the relay's own code: `node usage-writer.ts PATH`. Each transaction
// has three records of 1, 2 and 3 bytes, and prints a line. SIGTERM stops it like the relay.
const database = new UsageDatabase(process.argv[2] ?? '');
let started = 1_700_000_000;

function write(): void {
  const records = MOODS.map((mood, index): UsageRecord => {
    started += 1;
    return { started, total_time: 10, waiting_time: 1, total_bytes: index + 1, mood };
  });
  const current = { rebooted: 1, updated: started, connected: 0, waiting: 0, incomplete_bytes: 0 };
  const answer = database.handle({ kind: 'write', records, current });
  process.stdout.write(`${answer.kind}\n`);
}

const timer = setInterval(write, PAUSE_MS);
process.once('SIGTERM', () => {
  clearInterval(timer);
  database.handle({ kind: 'close' });
});
