import type { Live } from '../api.ts';
import { byId, setText } from './dom.ts';
import { fetchJson } from './fetch-json.ts';
import { formatClock } from './format.ts';
import { headlineOf } from './headline.ts';
import type { Connection } from './headline.ts';
import { mayHaveRecorded } from './live-changes.ts';
import { NowView } from './now-view.ts';
import { VIEWS } from './periods.ts';
import type { View } from './periods.ts';
import { Poller } from './poller.ts';
import { offerSelfTest } from './self-test-view.ts';
import { StatusView } from './status-view.ts';
import { StorageView } from './storage-view.ts';
import { UsageStore } from './usage-store.ts';
import { UsageView } from './usage-view.ts';

const LIVE_EVERY_MS = 1000;

/** Longer and the relay counts as not answering, in milliseconds. */
const LIVE_TIMEOUT_MS = 5000;

const USAGE_EVERY_MS = 60_000;

/** Usage is asked for more often than that only after a transfer has ended, and not more often than this. */
const USAGE_SPACING_MS = 10_000;

/** After which the record of a transfer that has ended is in the database, and no kept answer is without it. */
const RECORDED_MS = 2000;

const statusView = new StatusView();
const nowView = new NowView();
const usageView = new UsageView();
const store = new UsageStore(showUsage);
const livePoller = new Poller(LIVE_EVERY_MS, pollLive);
const usagePoller = new Poller(USAGE_EVERY_MS, () => store.load(view, serverNowMs()));
const storageView = new StorageView(() => livePoller.poke());

let view: View = VIEWS.find((name) => location.hash === `#${name}`) ?? 'day';
let last: Live | null = null;
let lastUpMs: number | null = null;
/** How far the server's clock is ahead of the browser's. */
let clockAheadMs = 0;

offerSelfTest();
offerPeriods();
showUsage();
livePoller.poke();

function serverNowMs(): number {
  return Date.now() + clockAheadMs;
}

async function pollLive(): Promise<boolean> {
  const outcome = await fetchJson<Live>('live.json', { timeoutMs: LIVE_TIMEOUT_MS });
  if (outcome.kind === 'problem') {
    showConnection({ ...outcome, kind: 'unreachable' });
    return false;
  }
  const live = outcome.value;
  clockAheadMs = Date.parse(live.now) - Date.now();
  if (live.relay.state === 'up') lastUpMs = Date.parse(live.now);
  if (last === null) usagePoller.poke();
  else if (mayHaveRecorded(last, live)) setTimeout(() => usagePoller.poke(USAGE_SPACING_MS), RECORDED_MS);
  last = live;
  showConnection({ kind: 'answered', live });
  return true;
}

function showConnection(connection: Connection): void {
  statusView.show(headlineOf(connection, lastUpMs));
  document.body.classList.toggle('is-unreachable', connection.kind === 'unreachable');
  if (connection.kind === 'answered') {
    setText(byId('clock', HTMLTimeElement), formatClock(Date.parse(connection.live.now)));
    nowView.show(connection.live, lastUpMs);
    storageView.show(connection.live);
  } else {
    nowView.showStale(lastUpMs);
  }
}

function showUsage(): void {
  usageView.show(store, view, serverNowMs());
}

/** The period is part of the address, so that a reload and a bookmark keep it. */
function offerPeriods(): void {
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=period]')) {
    radio.checked = radio.value === view;
    radio.addEventListener('change', () => {
      view = VIEWS.find((name) => name === radio.value) ?? view;
      history.replaceState(null, '', `#${view}`);
      showUsage();
    });
  }
}
