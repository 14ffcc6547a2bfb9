import { addressesSuite } from './addresses-suite.ts';
import { chaosSuite } from './chaos-suite.ts';
import { clientPortSuite } from './client-port-suite.ts';
import { finalCloseSuite } from './final-close-suite.ts';
import { oneClientSuite } from './one-client-suite.ts';
import { onePortSuite } from './one-port-suite.ts';
import { pairingSuite } from './pairing-suite.ts';
import { ProcessTopology } from './process-topology.ts';
import { ratesSuite } from './rates-suite.ts';
import { rejectionsSuite } from './rejections-suite.ts';
import { timeoutsSuite } from './timeouts-suite.ts';
import { manyRelays, oneRelay } from './topology.ts';
import type { Setup, Topology } from './topology.ts';
import { webSocketSuite } from './websocket-suite.ts';

const MIB = 2 ** 20;

const ONE: Setup = { name: 'one relay', relayCount: 1, open: oneRelay };
const TWO: Setup = { name: 'two relays', relayCount: 2, open: (options) => manyRelays(2, options) };
const TWO_WITH_TLS: Setup = {
  name: 'two relays and TLS between them',
  relayCount: 2,
  open: (options) => manyRelays(2, options, { isEncrypted: true }),
};
const PROCESSES: Setup<Topology> = {
  name: 'two processes',
  relayCount: 2,
  open: () => ProcessTopology.open(2),
};

const named = (name: string, setup: Setup): Setup => ({ ...setup, name });

/** With the fallback for unsupported versions of Node.js. */
const withStreams = (name: string, { open, relayCount }: Setup): Setup => ({
  name,
  relayCount,
  open: () => open(() => ({ standardStreams: true })),
});

/** A suite in one setup. */
type Run = () => void;

/** Which suite runs where, and with which options. Each group is a test file, and files run in parallel. */
const TABLE = {
  oneRelay: [
    run(oneClientSuite, ONE),
    run(pairingSuite, named('shared buffer', ONE), { bulkBytes: 50_000_000 }),
    run(pairingSuite, withStreams('standard streams', ONE), { bulkBytes: 10_000_000 }),
    run(finalCloseSuite, ONE),
    run(rejectionsSuite, ONE),
    run(addressesSuite, ONE),
    run(timeoutsSuite, ONE),
    run(ratesSuite, ONE, { transports: ['tcp', 'unix', 'websocket'], tenths: 5 }),
    run(webSocketSuite, ONE),
    run(onePortSuite, ONE),
    clientPortSuite,
  ],
  twoRelays: [
    run(oneClientSuite, TWO),
    run(oneClientSuite, named('two relays, token owned by the other relay', TWO), { isForwarded: true }),
    run(pairingSuite, TWO, { bulkBytes: 5_000_000 }),
    run(pairingSuite, withStreams('two relays with ordinary streams', TWO), {
      bulkBytes: 1_000_000,
      pairings: [
        ['tcp', 'websocket'],
        ['unix', 'tcp'],
        ['websocket', 'unix'],
      ],
    }),
    run(pairingSuite, TWO_WITH_TLS, {
      bulkBytes: 5_000_000,
      pairings: [
        ['tcp', 'unix'],
        ['unix', 'websocket'],
        ['websocket', 'tcp'],
      ],
    }),
    run(finalCloseSuite, TWO),
    run(rejectionsSuite, TWO),
    run(addressesSuite, TWO),
    run(timeoutsSuite, TWO),
    run(ratesSuite, TWO, { transports: ['websocket'], tenths: 3 }),
    run(webSocketSuite, TWO),
    run(onePortSuite, TWO),
  ],
  twoProcesses: [
    run(pairingSuite, PROCESSES, {
      bulkBytes: 5_000_000,
      pairings: [
        ['tcp', 'websocket'],
        ['unix', 'tcp'],
      ],
      canSweep: false,
    }),
    run(finalCloseSuite, PROCESSES),
  ],
  chaos: [
    run(chaosSuite, ONE, { rounds: 2, maxBytes: 8 * MIB }),
    run(chaosSuite, TWO, { rounds: 1, maxBytes: 4 * MIB }),
    run(chaosSuite, TWO_WITH_TLS, {
      rounds: 1,
      maxBytes: 4 * MIB,
      backends: { 'the shared buffer': {} },
    }),
  ],
} as const satisfies Readonly<Record<string, readonly Run[]>>;

function run<SetupKind, Options extends readonly unknown[]>(
  suite: (setup: SetupKind, ...options: Options) => void,
  setup: SetupKind,
  ...options: Options
): Run {
  return () => suite(setup, ...options);
}

/** Defines the tests of one group. */
export function runContract(group: keyof typeof TABLE): void {
  for (const define of TABLE[group]) define();
}
