import { parseArgs } from 'node:util';
import type { SimulationOptions } from './simulated-cluster.ts';
import { LATENCY_MODELS } from './latency.ts';
import { coordinatorLossTable, relayLossTable, steadyTable } from './tables.ts';

/**
 * Simulates clusters of relays: `npm run simulate -- [--relays 3,30,300] [--waiting 1000000] [--wait-seconds 600]
 * [--network site] [--lonely 0.1] [--command-us 60] [--batch-us 2000] [--seed 1]`. The rendezvous and the leases are the real
 * ones, with simulated time; network, coordinator and links are models. Prints tables; the same ones for the same arguments.
 * A million takes minutes and 3 GB: one of `--relays` and one `--network` at a time are quicker to see.
 */
const { values } = parseArgs({
  options: {
    relays: { type: 'string', default: '3,30,300' },
    waiting: { type: 'string', default: '1000000' },
    'wait-seconds': { type: 'string', default: '600' },
    // `site` or `continent`; both by default.
    network: { type: 'string', default: '' },
    lonely: { type: 'string', default: '0.1' },
    // Measured, client included: 16,800 acquired leases a second, and 200 commands that renew 100,000 leases
    // in 0.4 s.
    'command-us': { type: 'string', default: '60' },
    'batch-us': { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
  },
});

const relays = values.relays.split(',').map(Number);
const waiting = Number(values.waiting);
const waitMs = Number(values['wait-seconds']) * 1000;
const lonely = Number(values.lonely);
const service = {
  commandMs: Number(values['command-us']) / 1000,
  batchMs: Number(values['batch-us']) / 1000,
};
const seed = Number(values.seed);
const networks = LATENCY_MODELS.filter(({ name }) => name.endsWith(values.network));

const isCount = (number: number): boolean => Number.isSafeInteger(number) && number > 0;
const isValid =
  relays.every((count) => isCount(count) && count > 1) &&
  networks.length > 0 &&
  [waiting, seed].every(isCount) &&
  [waitMs, service.commandMs, service.batchMs].every((ms) => ms > 0) &&
  lonely >= 0 &&
  lonely < 1;

if (isValid) {
  const allOptions = networks.flatMap((network) =>
    relays.map((count): SimulationOptions => ({
      relays: count,
      waiting,
      waitMs,
      unpairedShare: lonely,
      latency: network,
      service,
      seed,
    })),
  );
  for (const table of [steadyTable, relayLossTable, coordinatorLossTable]) {
    process.stdout.write(`${await table(allOptions)}\n`);
  }
} else {
  process.stderr.write(
    'usage: --relays are numbers above 1, --network is site or continent, the others are numbers above 0\n',
  );
  process.exitCode = 64;
}
