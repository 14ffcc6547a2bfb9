import { once } from 'node:events';
import { churn } from './churn.ts';
import { ClientFlood } from './client-flood.ts';
import type { Behaviour } from './client-flood.ts';
import { PAIR_ATTACKS } from './pair-attacks.ts';
import type { PairAttack } from './pair-attacks.ts';
import type { Ports } from './pair-client.ts';
import { RAW_ATTACKS } from './raw-attacks.ts';
import { WEBSOCKET_ATTACKS } from './websocket-attacks.ts';

/**
 * An attacker, run as `node attacker.ts ATTACK RAW_PORT WEBSOCKET_PORT COUNT`. It prints lines of JSON: first
 * `{ ready: … }`, when COUNT connections have been made or have failed; then `{ ended: … }`, counts of
 * connections by how they ended, when none is left. The end of its input closes the remaining connections. A
 * pair counts once, and `churn` takes seconds.
 */

function print(report: object): void {
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

async function whenInputEnds(leave: () => void): Promise<void> {
  process.stdin.resume();
  await once(process.stdin, 'end');
  leave();
}

async function attackBy(port: number, behaviour: Behaviour, count: number): Promise<void> {
  const flood = new ClientFlood(port, behaviour);
  await flood.open(count);
  print({ ready: { connected: flood.connected, failed: flood.failed } });
  void whenInputEnds(() => flood.leave());
  print({ ended: await flood.ended() });
}

async function attackByPairs(begin: PairAttack, ports: Ports, count: number): Promise<void> {
  const { ready, end } = await begin(ports, count);
  print({ ready });
  await whenInputEnds(() => undefined);
  print({ ended: end() });
}

async function attack(name: string, ports: Ports, count: number): Promise<void> {
  const raw = new Map<string, Behaviour>(Object.entries(RAW_ATTACKS)).get(name);
  const websocket = new Map<string, Behaviour>(Object.entries(WEBSOCKET_ATTACKS)).get(name);
  const byPairs = new Map<string, PairAttack>(Object.entries(PAIR_ATTACKS)).get(name);
  if (raw !== undefined) await attackBy(ports.raw, raw, count);
  else if (websocket !== undefined) await attackBy(ports.websocket, websocket, count);
  else if (byPairs !== undefined) await attackByPairs(byPairs, ports, count);
  else if (name === 'churn') await attackByPairs(churn, ports, count);
  else throw new Error(`unknown attack "${name}"`);
}

const [name = '', raw, websocket, count] = process.argv.slice(2);
await attack(name, { raw: Number(raw), websocket: Number(websocket) }, Number(count));
process.exit(0);
