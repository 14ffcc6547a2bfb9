import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Dice } from '../../support/dice.ts';
import { findProgram } from '../../support/programs.ts';
import { SidecarProcess } from '../../support/sidecar-process.ts';
import { createUsageDatabase } from '../../support/usage-records.ts';
import type { ValidRecord } from '../../support/usage-records.ts';
import { dashboardExamples, routeExample } from './dashboard-examples.ts';

/*
 * Makes deploy/dashboard.png, the picture of the dashboard in the README, from example data:
 *
 *     node test/system/sidecar/dashboard-picture.ts
 *
 * It needs Debian's chromium, fonts-inter and pngquant.
 */

const PICTURE = join(import.meta.dirname, '..', '..', '..', 'deploy', 'dashboard.png');

/** The time on the picture, a Friday afternoon. */
const NOW_MS = Date.UTC(2026, 10, 20, 14, 40, 31);

const HOUR_S = 3600;

/** More than the twelve months on the page. */
const HOURS = 400 * 24;

/** Records per hour, by hour of the day in UTC, of a relay with most users in Europe. */
const HOURLY = [9, 7, 5, 4, 4, 6, 10, 19, 31, 40, 43, 41, 38, 42, 45, 44, 41, 37, 34, 33, 30, 25, 19, 13];

/** Of a hundred records. */
const OUTCOMES = [
  ['happy', 71],
  ['lonely', 15],
  ['redundant', 5],
  ['empty', 6],
  ['errory', 2],
  ['impatient', 1],
] as const;

function exampleRecords(dice: Dice): ValidRecord[] {
  const records: ValidRecord[] = [];
  const lastHour = Math.floor(NOW_MS / 1000 / HOUR_S);
  for (let hour = lastHour - HOURS; hour <= lastHour; hour += 1) {
    const date = new Date(hour * HOUR_S * 1000);
    const isWeekend = [0, 6].includes(date.getUTCDay());
    const growth = 0.6 + (0.4 * (hour - lastHour + HOURS)) / HOURS;
    const mean = (HOURLY[date.getUTCHours()] ?? 0) * growth * (isWeekend ? 0.6 : 1);
    const count = Math.round(mean * (0.8 + 0.4 * dice.roll()));
    for (let index = 0; index < count; index += 1) {
      const started = hour * HOUR_S + dice.between(0, HOUR_S - 1);
      if (started < NOW_MS / 1000 - 2) records.push(exampleRecord(dice, started));
    }
  }
  return records;
}

function exampleRecord(dice: Dice, started: number): ValidRecord {
  let rest = dice.between(0, 99);
  const result = OUTCOMES.find(([, percent]) => (rest -= percent) < 0)?.[0] ?? 'happy';
  const isPair = result === 'happy';
  return {
    started,
    total_time: dice.size(900),
    waiting_time: isPair ? dice.size(9000) / 10 : null,
    // Most files are small; a few are large.
    total_bytes: isPair ? 50_000 + dice.size(1_500_000_000) : 0,
    result,
  };
}

/** Inter for the texts of the page, where most people see a similar font of their system. */
const FONTS = `<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  <match target="pattern">
    <test name="family"><string>system-ui</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit>
  </match>
  <match target="pattern">
    <test name="family"><string>sans-serif</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit>
  </match>
</fontconfig>
`;

const directory = await mkdtemp(join(tmpdir(), 'dashboard-picture-'));
try {
  createUsageDatabase(directory, exampleRecords(new Dice(3)));
  await using sidecar = await SidecarProcess.start({
    SIDECAR_USAGE_DB: join(directory, 'usage.sqlite'),
    SIDECAR_SNAPSHOT_DIR: join(directory, 'snapshots'),
    // No relay: the example is its status.
    SIDECAR_RELAY_STATUS: 'http://127.0.0.1:2',
  });
  const fonts = join(directory, 'fonts.conf');
  await writeFile(fonts, FONTS);
  const browser = await chromium.launch({
    env: { ...process.env, FONTCONFIG_FILE: fonts },
    executablePath: findProgram('chromium') ?? 'chromium',
    args: ['--no-sandbox'],
  });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: 'light' });
  await routeExample(page, dashboardExamples(NOW_MS).serving);
  await page.route('**/usage.json*', async (route) => {
    const response = await route.fetch();
    const report: object = await response.json();
    await route.fulfill({
      response,
      json: { ...report, generated: new Date(NOW_MS - 25_000).toISOString() },
    });
  });
  await page.goto(sidecar.url);
  await page
    .locator('#usage-as-of')
    .filter({ hasText: /^as of/u })
    .waitFor();
  await page.waitForLoadState('networkidle');
  await page.screenshot({ path: PICTURE, fullPage: true });
  await browser.close();
  execFileSync('pngquant', [
    '--quality=90-100',
    '--speed=1',
    '--strip',
    '--force',
    '--output',
    PICTURE,
    PICTURE,
  ]);
} finally {
  await rm(directory, { recursive: true, force: true });
}
