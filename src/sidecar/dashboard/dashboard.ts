import type { LiveStatus } from '../api.ts';
import { byId, setText } from './dom.ts';
import { formatClock } from './format.ts';
import { hasNewRecords, toHeadline } from './live-state.ts';
import type { ConnectionState } from './live-state.ts';
import { NowView, initSelfTest, showHeadline } from './live-view.ts';
import { USAGE_PERIODS } from './periods.ts';
import type { UsagePeriod } from './periods.ts';
import { Poller, fetchJson } from './requests.ts';
import { StorageView } from './storage-view.ts';
import { UsageStore } from './usage-store.ts';
import { UsageView } from './usage-view.ts';

const LIVE_INTERVAL_MS = 1000;

/** The sidecar counts as unreachable after this time, in milliseconds. */
const LIVE_TIMEOUT_MS = 5000;

const USAGE_INTERVAL_MS = 60_000;

/** Minimum time between two usage requests after transfers, in milliseconds. */
const MIN_USAGE_INTERVAL_MS = 10_000;

/**
 * After this time the record of a finished transfer is in the database, and cached reports without it have
 * expired. In milliseconds.
 */
const RECORD_DELAY_MS = 2000;

const nowView = new NowView();
const usageView = new UsageView();
const store = new UsageStore(showUsage);
const livePoller = new Poller(LIVE_INTERVAL_MS, pollLive);
const usagePoller = new Poller(USAGE_INTERVAL_MS, () => store.load(selectedPeriod, serverNowMs()));
const storageView = new StorageView(() => livePoller.trigger());

let selectedPeriod: UsagePeriod = USAGE_PERIODS.find((name) => location.hash === `#${name}`) ?? 'day';
let last: LiveStatus | null = null;
let lastUpMs: number | null = null;
/** Server clock minus browser clock. */
let clockOffsetMs = 0;

initSelfTest();
initPeriodSelector();
showUsage();
livePoller.trigger();

function serverNowMs(): number {
  return Date.now() + clockOffsetMs;
}

async function pollLive(): Promise<boolean> {
  const outcome = await fetchJson<LiveStatus>('live.json', { timeoutMs: LIVE_TIMEOUT_MS });
  if (outcome.kind === 'problem') {
    showConnection({ ...outcome, kind: 'unreachable' });
    return false;
  }
  const live = outcome.value;
  clockOffsetMs = Date.parse(live.now) - Date.now();
  if (live.relay.state === 'up') lastUpMs = Date.parse(live.now);
  if (last === null) usagePoller.trigger();
  else if (hasNewRecords(last, live))
    setTimeout(() => usagePoller.trigger(MIN_USAGE_INTERVAL_MS), RECORD_DELAY_MS);
  last = live;
  showConnection({ kind: 'answered', live });
  return true;
}

function showConnection(connection: ConnectionState): void {
  showHeadline(toHeadline(connection, lastUpMs));
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
  usageView.show(store, selectedPeriod, serverNowMs());
}

/** The period is in the URL fragment, so that reloads and bookmarks keep it. */
function initPeriodSelector(): void {
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=period]')) {
    radio.checked = radio.value === selectedPeriod;
    radio.addEventListener('change', () => {
      selectedPeriod = USAGE_PERIODS.find((name) => name === radio.value) ?? selectedPeriod;
      history.replaceState(null, '', `#${selectedPeriod}`);
      showUsage();
    });
  }
}
