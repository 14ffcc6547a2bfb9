import type { LiveHistory, LiveStatus } from '../api.ts';
import { byId, setText } from './dom.ts';
import { formatClock } from './format.ts';
import { hasNewRecords, toDisplayedHost, toHeadline } from './live-state.ts';
import { NowView, showHeadline, showProgram, showWarnings } from './live-view.ts';
import { Poller, fetchJson } from './requests.ts';
import { initSelfTest } from './self-test.ts';
import { StorageView } from './storage-view.ts';
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

let last: LiveStatus | null = null;
/** Server clock minus browser clock. */
let clockOffsetMs = 0;
/** Name of the relay's host, for the header and the browser tab. */
let host = location.host;

const nowView = new NowView();
const usageView = new UsageView(() => Date.now() + clockOffsetMs);
const livePoller = new Poller(LIVE_INTERVAL_MS, pollLive);
const usagePoller = new Poller(USAGE_INTERVAL_MS, () => usageView.load());
const storageView = new StorageView(() => livePoller.trigger());

initSelfTest();
livePoller.trigger();

async function pollLive(): Promise<boolean> {
  const outcome = await fetchJson<LiveStatus>('live.json', { timeoutMs: LIVE_TIMEOUT_MS });
  document.body.classList.toggle('is-unreachable', outcome.kind === 'problem');
  if (outcome.kind === 'problem') {
    showHeadline(toHeadline({ ...outcome, kind: 'unreachable' }, nowView.lastUp), host);
    nowView.showStale();
    return false;
  }
  const live = outcome.value;
  const nowMs = Date.parse(live.now);
  clockOffsetMs = nowMs - Date.now();
  usageView.showLive(live);
  if (nowView.needsHistory(nowMs / 1000)) {
    // Without an answer, the chart continues with what the page receives.
    const history = await fetchJson<LiveHistory>('live-history.json', { timeoutMs: LIVE_TIMEOUT_MS });
    if (history.kind === 'ok') nowView.loadHistory(history.value);
  }
  if (last === null) usagePoller.trigger();
  else if (hasNewRecords(last, live))
    setTimeout(() => usagePoller.trigger(MIN_USAGE_INTERVAL_MS), RECORD_DELAY_MS);
  last = live;
  if (live.relay.state !== 'down') host = toDisplayedHost(live.relay.host, location.host);
  nowView.show(live);
  showHeadline(toHeadline({ kind: 'answered', live }, nowView.lastUp), host);
  showWarnings(live);
  showProgram(live, host);
  setText(byId('clock', HTMLTimeElement), formatClock(nowMs));
  storageView.show(live);
  return true;
}
