import type { LiveHistory, UsageReport } from '../api.ts';
import { formatDuration, formatDateTime } from './format.ts';
import type { TimeBucket, UsagePeriodRange } from './usage-periods.ts';

/** A range of time. Milliseconds since the epoch. */
export interface TimeRange {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * Why the number of records of a time is not known:
 *
 * - `before`: the database has no record of that time or earlier
 * - `down`: the relay did not answer the sidecar
 * - `stale`: the relay has not written to the database since
 * - `silent`: there are no records, which is unusual, and nothing says that the relay was running
 */
export type GapReason = 'before' | 'down' | 'stale' | 'silent';

export interface Gap extends TimeRange {
  readonly reason: GapReason;
}

/** What the sidecar saw of the relay, as far as it remembers. */
export interface Observation {
  /** Start of the observation. Before it, nothing is known. */
  readonly fromMs: number;
  /** When the relay did not answer, oldest first. */
  readonly outages: readonly TimeRange[];
}

/** Shorter outages are not shown: updates restart the relay within seconds. */
const MIN_OUTAGE_MS = 60_000;

/**
 * The outages in the sidecar's history.
 *
 * @param sidecarStartedMs nothing was observed before; milliseconds since the epoch
 */
export function toObservation(
  { series }: Pick<LiveHistory, 'series'>,
  sidecarStartedMs: number,
): Observation | null {
  // The coarse series is the long one.
  const [longest] = series.toSorted((one, other) => other.step_seconds - one.step_seconds);
  if (longest === undefined || longest.pairs.length === 0) return null;
  const stepMs = 1000 * longest.step_seconds;
  const startMs = Date.parse(longest.end) - (longest.pairs.length - 1) * stepMs;
  const fromMs = Math.max(startMs, sidecarStartedMs);
  const outages: TimeRange[] = [];
  let outageMs: number | null = null;
  for (const [index, pairs] of [...longest.pairs, 0].entries()) {
    const pointMs = startMs + index * stepMs;
    if (pairs === null) {
      outageMs ??= Math.max(pointMs, fromMs);
    } else if (outageMs !== null) {
      if (pointMs - outageMs >= MIN_OUTAGE_MS) outages.push({ fromMs: outageMs, toMs: pointMs });
      outageMs = null;
    }
  }
  return { fromMs, outages };
}

/** A relay writes to the database every 30 s, Munin's readers wait for 5 minutes. */
const STALE_MS = 5 * 60_000;

/** An empty bar is unusual if half of the others have at least this many records. */
const USUAL_RECORDS = 10;

/**
 * The parts of a range whose number of records is not known.
 *
 * @param records the records of each bar of the range
 */
export function toGaps(
  range: UsagePeriodRange,
  { generated, recorded }: Pick<UsageReport, 'generated' | 'recorded'>,
  records: readonly number[],
  observation: Observation | null,
): Gap[] {
  const nowMs = Date.parse(generated);
  const firstMs = recorded.from === null ? nowMs : Date.parse(recorded.from);
  const lastMs = recorded.to === null ? nowMs : Date.parse(recorded.to);
  const gaps: Gap[] = [
    { fromMs: range.fromMs, toMs: firstMs, reason: 'before' as const },
    ...(observation?.outages ?? []).map(({ fromMs, toMs }) => ({ fromMs, toMs, reason: 'down' as const })),
    ...(nowMs - lastMs > STALE_MS ? [{ fromMs: lastMs, toMs: nowMs, reason: 'stale' as const }] : []),
    ...toSilentGaps(range, { fromMs: firstMs, toMs: lastMs }, records, {
      runningSinceMs: recorded.relay_started === null ? nowMs : Date.parse(recorded.relay_started),
      observedSinceMs: observation?.fromMs ?? nowMs,
    }),
  ];
  return gaps
    .map(({ fromMs, toMs, reason }) => ({
      fromMs: Math.max(fromMs, range.fromMs),
      toMs: Math.min(toMs, range.toMs, nowMs),
      reason,
    }))
    .filter(({ fromMs, toMs }) => fromMs < toMs);
}

/** Bars without records in the time that is not known to be quiet. */
function toSilentGaps(
  { buckets }: UsagePeriodRange,
  recorded: TimeRange,
  records: readonly number[],
  { runningSinceMs, observedSinceMs }: { readonly runningSinceMs: number; readonly observedSinceMs: number },
): Gap[] {
  const inside = [...buckets.entries()].filter(
    ([, { startMs, endMs }]) => startMs >= recorded.fromMs && endMs <= recorded.toMs,
  );
  const counts = inside.map(([bar]) => records[bar] ?? 0).toSorted((one, other) => one - other);
  const median = counts[Math.floor(counts.length / 2)] ?? 0;
  if (median < USUAL_RECORDS) return [];
  return inside
    .filter(([bar, { endMs }]) => records[bar] === 0 && endMs <= Math.min(runningSinceMs, observedSinceMs))
    .map(([, { startMs, endMs }]) => ({ fromMs: startMs, toMs: endMs, reason: 'silent' }));
}

/** The gaps on a scale on which bar n begins at n and ends at n + 1; merged, in order. */
export function toBands({ buckets }: UsagePeriodRange, gaps: readonly Gap[]): { from: number; to: number }[] {
  const position = (timeMs: number): number => {
    const bar = buckets.findIndex(({ endMs }) => timeMs < endMs);
    const bucket = buckets[bar];
    if (bucket === undefined) return buckets.length;
    return bar + Math.max(0, (timeMs - bucket.startMs) / (bucket.endMs - bucket.startMs));
  };
  const bands: { from: number; to: number }[] = [];
  for (const { fromMs, toMs } of gaps.toSorted((one, other) => one.fromMs - other.fromMs)) {
    const [from, to] = [position(fromMs), position(toMs)];
    const last = bands.at(-1);
    if (last !== undefined && from <= last.to) last.to = Math.max(last.to, to);
    else bands.push({ from, to });
  }
  return bands;
}

/** Whether the gaps cover the bar, or its part in the past. */
export function isInGap({ startMs, endMs }: TimeBucket, gaps: readonly Gap[], nowMs: number): boolean {
  const untilMs = Math.min(endMs, nowMs);
  let knownMs = startMs;
  for (const { fromMs, toMs } of gaps.toSorted((one, other) => one.fromMs - other.fromMs)) {
    if (fromMs <= knownMs) knownMs = Math.max(knownMs, toMs);
  }
  return startMs < untilMs && knownMs >= untilMs;
}

/** The gaps of a bar in words, for its tooltip. */
export function gapNotes({ startMs, endMs }: TimeBucket, gaps: readonly Gap[]): string[] {
  const own = gaps.filter(({ fromMs, toMs }) => fromMs < endMs && toMs > startMs);
  const downMs = own
    .filter(({ reason }) => reason === 'down')
    .reduce((sum, { fromMs, toMs }) => sum + Math.min(toMs, endMs) - Math.max(fromMs, startMs), 0);
  const notes: Readonly<Record<GapReason, (gap: Gap) => string>> = {
    before: ({ toMs }) =>
      toMs < endMs ? `records begin ${formatDateTime(toMs)}` : 'before the first record',
    down: () => `the relay did not answer for ${formatDuration(downMs / 1000)}`,
    stale: ({ fromMs }) => `nothing recorded since ${formatDateTime(fromMs)}`,
    silent: () => 'no records: the relay may have been down',
  };
  return [...new Set(own.map((gap) => notes[gap.reason](gap)))];
}

const CAPTIONS: Readonly<Record<GapReason, string>> = {
  before: 'before the first record',
  down: 'the relay did not answer',
  stale: 'the usage database was not written',
  silent: 'no records, so the relay may have been down',
};

/** What the gaps of a chart mean, in a sentence; empty without gaps. */
export function gapCaption(gaps: readonly Gap[]): string {
  const reasons = [...new Set(gaps.map(({ reason }) => CAPTIONS[reason]))];
  return reasons.length === 0 ? '' : `Hatched: no data (${reasons.join('; ')}).`;
}
