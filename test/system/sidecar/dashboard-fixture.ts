import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { BrowserContextOptions } from 'playwright-core';
import { CHECK_TIMEOUT_MS, STATUS_TIMEOUT_MS } from '../../../src/sidecar/relay-client.ts';
import { PROBE_TIMEOUT_MS } from '../../../src/status/health-probes.ts';
import { BrowserPage } from '../../support/browser.ts';
import { Dice } from '../../support/dice.ts';
import { freePorts } from '../../support/listening.ts';
import { patience } from '../../support/patience.ts';
import { RelayProcess } from '../../support/relay-process.ts';
import { scratch } from '../../support/scratch.ts';
import { SidecarProcess } from '../../support/sidecar-process.ts';
import { createUsageDatabase } from '../../support/usage-records.ts';
import type { ValidRecord } from '../../support/usage-records.ts';

const ANY_LOOPBACK_PORT = 'tcp:0:interface=127.0.0.1';

const DAY_S = 86_400;

/** Age of the oldest records: older than the year on the page. */
const OLDEST_S = 430 * DAY_S;

export interface DashboardFixtureOptions {
  /** Records in the database before the relay starts; null for no file. */
  readonly records?: readonly ValidRecord[] | null;
  /** If false, only the sidecar runs. */
  readonly withRelay?: boolean;
  readonly relaySettings?: Readonly<Record<string, string>>;
  readonly browser?: BrowserContextOptions;
  /** Required by the sidecar; the browser sends it as the password. */
  readonly token?: string | undefined;
}

/** A relay with its sidecar, and the dashboard in a browser. All of it ends with the test. */
export interface DashboardFixture {
  readonly relay: RelayProcess | null;
  readonly sidecar: SidecarProcess;
  readonly browser: BrowserPage;
  readonly databasePath: string;
  /** Restarts the relay on the same status port. */
  readonly startRelay: () => Promise<RelayProcess>;
  /** Restarts the sidecar on the same port. */
  readonly startSidecar: () => Promise<SidecarProcess>;
}

/** Starts everything and waits until the page shows the first status. */
export async function openDashboard(
  context: TestContext,
  {
    records = [],
    withRelay = true,
    relaySettings = {},
    browser: browserOptions = {},
    token,
  }: DashboardFixtureOptions = {},
): Promise<DashboardFixture> {
  const directory = await scratch(context);
  const databasePath = join(directory, 'usage.sqlite');
  if (records !== null) createUsageDatabase(directory, records);
  const [statusPort = 0, sidecarPort = 0] = await freePorts(2);
  const start = (): Promise<RelayProcess> =>
    startRelay(context, {
      ...relaySettings,
      RELAY_USAGE_DB: databasePath,
      RELAY_STATUS_LISTEN: `tcp:${statusPort}:interface=127.0.0.1`,
    });
  const relay = withRelay ? await start() : null;
  const settings = {
    SIDECAR_LISTEN: `tcp:${sidecarPort}:interface=127.0.0.1`,
    SIDECAR_USAGE_DB: databasePath,
    SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    SIDECAR_RELAY_STATUS: `http://127.0.0.1:${statusPort}`,
    ...(token === undefined ? {} : { SIDECAR_TOKEN: token }),
  };
  const sidecar = await startSidecar(context, settings);
  const browser = await BrowserPage.open(context, sidecar.url, {
    ...browserOptions,
    ...(token === undefined ? {} : { httpCredentials: { username: 'any user', password: token } }),
  });
  await browser.until(`document.querySelector('#status').dataset.tone !== 'loading'`);
  return {
    relay,
    sidecar,
    browser,
    databasePath,
    startRelay: start,
    startSidecar: () => startSidecar(context, settings),
  };
}

async function startRelay(
  context: TestContext,
  settings: Readonly<Record<string, string>>,
): Promise<RelayProcess> {
  const relay = await RelayProcess.start({
    ...patience(PROBE_TIMEOUT_MS),
    RELAY_WEBSOCKET_LISTEN: ANY_LOOPBACK_PORT,
    ...settings,
  });
  context.after(() => relay[Symbol.asyncDispose]());
  return relay;
}

async function startSidecar(
  context: TestContext,
  settings: Readonly<Record<string, string>>,
): Promise<SidecarProcess> {
  const sidecar = await SidecarProcess.start({
    ...patience(STATUS_TIMEOUT_MS, CHECK_TIMEOUT_MS),
    ...settings,
  });
  context.after(() => sidecar[Symbol.asyncDispose]());
  return sidecar;
}

/** Records of more than a year until now, with all moods and an unknown one, denser towards now. */
export function generateYearOfRecords(seed: number, count: number): ValidRecord[] {
  const dice = new Dice(seed);
  const nowSeconds = Math.floor(Date.now() / 1000);
  const moods = [
    'happy',
    'happy',
    'happy',
    'lonely',
    'redundant',
    'impatient',
    'errory',
    'empty',
    'jubilant',
  ];
  return Array.from({ length: count }, () => {
    const result = moods[dice.between(0, moods.length - 1)] ?? 'happy';
    const isPair = result === 'happy' || result === 'jubilant';
    return {
      // All orders of magnitude of age are equally likely, but no record is from the last second.
      started: nowSeconds - 2 - dice.size(OLDEST_S),
      total_time: dice.between(1, 4000),
      waiting_time: isPair ? dice.size(8000) - 1 : null,
      total_bytes: isPair ? dice.size(1e10) : 0,
      result,
    };
  });
}
