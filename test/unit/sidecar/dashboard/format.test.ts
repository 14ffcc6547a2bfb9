import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as fc from 'fast-check';
import {
  formatAge,
  formatBytes,
  formatClock,
  formatCompact,
  formatCount,
  formatDateTime,
  formatDuration,
  formatCounted,
  formatExactBytes,
  formatListener,
  formatRate,
  formatShare,
  formatUntil,
  toSentence,
} from '../../../../src/sidecar/dashboard/format.ts';

/** Replaces no-break spaces with spaces. */
function plain(text: string): string {
  return text.replaceAll('\u00a0', ' ');
}

describe('numbers on the dashboard', () => {
  const bytes: readonly (readonly [bytes: number, text: string])[] = [
    [0, '0 B'],
    [1, '1 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [1234, '1.23 kB'],
    [999_499, '999 kB'],
    [999_500, '1 MB'],
    [1_200_000_000, '1.2 GB'],
    [999_950_000_000, '1 TB'],
    [20_100_000_000_000, '20.1 TB'],
    [5e21, '5000 EB'],
  ];
  for (const [count, text] of bytes) {
    test(`${count} bytes are ${text}`, () => assert.equal(plain(formatBytes(count)), text));
  }

  test('sizes are exact to half a per cent and have at most three digits', () => {
    const powers = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15 };
    fc.assert(
      fc.property(fc.maxSafeNat(), (count) => {
        const [number = '', unit = ''] = plain(formatBytes(count)).split(' ');
        const power = Object.entries(powers).find(([name]) => name === unit)?.[1] ?? NaN;
        assert.ok(Math.abs(Number(number) * power - count) <= count * 0.005 + 0.5);
        assert.ok(number.replace('.', '').length <= 3);
      }),
    );
  });

  test('rates keep three digits, bytes have no fractions', () => {
    assert.equal(plain(formatRate(0)), '0 B/s');
    assert.equal(plain(formatRate(12.6)), '13 B/s');
    assert.equal(plain(formatRate(1000)), '1.00 kB/s');
    assert.equal(plain(formatRate(12_000_000)), '12.0 MB/s');
    assert.equal(plain(formatRate(999_600)), '1.00 MB/s');
  });

  test('exact numbers have all their digits', () => {
    assert.equal(formatCounted(0, 'client'), '0 clients');
    assert.equal(formatCounted(1, 'client'), '1 client');
    assert.equal(formatCounted(1234, 'entry', 'entries'), '1,234 entries');
    assert.equal(formatExactBytes(1), '1 byte');
    assert.equal(formatExactBytes(1_234_567), '1,234,567 bytes');
    assert.equal(formatCount(1_234_567), '1,234,567');
    assert.equal(formatCompact(1_250_000), '1.25M');
  });

  test('shares are rounded to 0 % or 100 % only if exact', () => {
    assert.equal(formatShare(0, 0), '–');
    assert.equal(plain(formatShare(0, 10)), '0 %');
    assert.equal(plain(formatShare(1, 1000)), '< 1 %');
    assert.equal(plain(formatShare(999, 1000)), '> 99 %');
    assert.equal(plain(formatShare(10, 10)), '100 %');
    assert.equal(plain(formatShare(83, 100)), '83 %');
  });
});

describe('times on the dashboard', () => {
  const durations: readonly (readonly [durationSeconds: number, text: string])[] = [
    [-5, '0 s'],
    [0, '0 s'],
    [59.9, '59 s'],
    [60, '1 min'],
    [3599, '59 min'],
    [3600, '1 h'],
    [12_000, '3 h 20 min'],
    [86_399, '23 h 59 min'],
    [86_400, '1 d'],
    [964_800, '11 d 4 h'],
  ];
  for (const [durationSeconds, text] of durations) {
    test(`${durationSeconds} s are ${text}`, () =>
      assert.equal(plain(formatDuration(durationSeconds)), text));
  }

  test('times in the past and future are relative to now', () => {
    const nowMs = Date.UTC(2026, 10, 23, 5);
    assert.equal(formatAge(nowMs - 59_000, nowMs), 'just now');
    assert.equal(formatAge(nowMs + 5000, nowMs), 'just now');
    assert.equal(plain(formatAge(nowMs - 180_000, nowMs)), '3 min ago');
    assert.equal(plain(formatUntil(nowMs + 720_000, nowMs)), 'in 12 min');
    assert.equal(formatUntil(nowMs - 1, nowMs), 'now');
  });

  test('clocks and dates are UTC and say so', () => {
    const timeMs = Date.UTC(2026, 10, 3, 5, 9, 2);
    assert.equal(formatClock(timeMs), '05:09:02 UTC');
    assert.equal(formatDateTime(timeMs), '3 Nov 2026, 05:09 UTC');
  });
});

test('a problem becomes a sentence', () => {
  assert.equal(toSentence('the disk is full'), 'The disk is full.');
  assert.equal(toSentence(' Why? '), 'Why?');
});

describe('a listener is named', () => {
  const cases: readonly (readonly [listener: string, name: string])[] = [
    ['raw ssl:443:interface=127.0.0.1', 'TLS 443'],
    ['raw tcp:4001', 'TCP 4001'],
    [String.raw`raw tcp:4001:interface=\:\:`, 'TCP 4001'],
    ['websocket tcp:4002:interface=127.0.0.1', 'WebSocket 4002'],
    [String.raw`raw unix:/run/a\:b.sock:mode=660`, '/run/a:b.sock'],
    ['something else', 'something else'],
  ];
  for (const [listener, name] of cases) {
    test(`${listener}: ${name}`, () => assert.equal(formatListener(listener), name));
  }
});
