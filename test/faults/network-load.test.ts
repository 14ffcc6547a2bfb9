import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Attack } from './support/attack.ts';
import { MonitoredRelay } from './support/monitored-relay.ts';
import { checkRecovery } from './support/recovery.ts';

const CHURN_SECONDS = 5;

const STALLED_PAIRS = 1000;

/** Connections of the bystander. */
const BYSTANDER_PAIRS = 2;

const BUFFER_MEMORY_MIB = 16;

/** Minimum buffer of a stalled pair (16 KiB) and the cost of its two connections, in MiB. */
const STALLED_PAIR_MIB = (16 + 2 * 8) / 1024;

/** Additional memory of a busy relay, in MiB: garbage, and what a thread needs to write records. */
const WORKING_MIB = 64;

describe('many clients', () => {
  test('that connect and disconnect at once, thousands per second, each have a record', async (context) => {
    const monitored = await MonitoredRelay.startFor(context);
    let connected = 0;
    const transfers = await checkRecovery(
      context,
      monitored,
      `${CHURN_SECONDS} s of connect and leave`,
      async () => {
        await using attackers = new AsyncDisposableStack();
        // A single attacker process would not load the machine enough.
        const attacks = [1, 2].map(() => attackers.use(new Attack('churn', monitored, CHURN_SECONDS)));
        const churns = await Promise.all(attacks.map((attack) => attack.ready()));
        const sum = (name: string): number =>
          churns.reduce((total, churn) => total + (churn[name] ?? NaN), 0);
        connected = sum('connected');
        context.diagnostic(`${connected} connections, ${sum('perSecond')} a second`);
        assert.equal(sum('failed'), 0);
        assert.ok(connected > 1000, `only ${connected} connections`);
        await Promise.all(attacks.map((attack) => attack.leave()));
      },
    );
    assert.deepEqual(await monitored.moods(), { empty: connected, happy: transfers });
  });

  test('that never read, 1,000 receivers, use no more memory than documented', async (context) => {
    const monitored = await MonitoredRelay.startFor(context, {
      RELAY_BUFFER_MEMORY: `${BUFFER_MEMORY_MIB}MiB`,
    });
    const fault = `${STALLED_PAIRS} receivers that never read`;
    const action = async (): Promise<void> => {
      await using attack = new Attack('stalls', monitored, STALLED_PAIRS);
      const { pairs, bytes = 0 } = await attack.ready();
      assert.equal(pairs, STALLED_PAIRS);
      assert.equal((await monitored.status()).pairs, STALLED_PAIRS + BYSTANDER_PAIRS);
      context.diagnostic(`${(bytes / 2 ** 20).toFixed(0)} MiB sent`);
      await attack.leave();
    };
    const documentedMiB = BUFFER_MEMORY_MIB + STALLED_PAIRS * STALLED_PAIR_MIB + WORKING_MIB;
    const transfers = await checkRecovery(context, monitored, fault, action, documentedMiB);
    assert.deepEqual(await monitored.moods(), { happy: STALLED_PAIRS + transfers });
  });
});
