import type { RelayConfig } from '../config/relay-config.ts';
import { LineWriter, LogThrottle } from '../process/logging.ts';
import type { Log } from '../process/logging.ts';
import { RecordLimiter } from '../usage/record-limiter.ts';
import type { SuppressedRecords } from '../usage/record-limiter.ts';
import { toJsonLine } from '../usage/record.ts';
import type { UsageRecorder } from '../usage/record.ts';
import type { DiskUse } from '../usage/disk-use.ts';
import { SqliteSink } from '../usage/sqlite-sink.ts';
import type { CurrentState, SqliteSinkEvents } from '../usage/sqlite-sink.ts';
import type { DatabaseNotice } from '../usage/usage-database.ts';
import type { Warnings } from './warnings.ts';

/** The first of consecutive database failures is logged, and then one in this many. */
const LOG_EVERY_FAILURES = 12;

/** The shortest time between two log lines about suppressed records, in milliseconds. */
const LOG_SUPPRESSED_INTERVAL_MS = 60_000;

/** The shortest time between two log lines about a shared database, in milliseconds. */
const LOG_SHARED_INTERVAL_MS = 3_600_000;

/** A relay writes its row `current` twice a minute or more often. In milliseconds. */
const SHARED_WARNING_MS = 120_000;

const SHARED_DATABASE =
  'another relay writes to the same usage database, and the states and quotas of both are wrong; give each its own RELAY_USAGE_DB';

/** Usage records since the start. */
interface RecordCounts {
  readonly written: number;
  readonly dropped: number;
}

/** The outputs of usage records. Logs their failures. */
export class RelayUsage {
  readonly #recorder: UsageRecorder;
  readonly #log: Log;
  /** In front of all files. Metrics do not pass through it. */
  readonly #limiter: RecordLimiter;
  #lineWriter: LineWriter | null = null;
  /** Records passed to the line writer. */
  #submittedLines = 0;
  #database: SqliteSink | null = null;
  readonly #warnings: Warnings;
  #databaseProblem: string | null = null;
  readonly #sharedThrottle: LogThrottle;

  /** @param clock milliseconds of a monotonic clock */
  constructor(recorder: UsageRecorder, log: Log, warnings: Warnings, clock: () => number) {
    this.#recorder = recorder;
    this.#warnings = warnings;
    this.#log = log;
    this.#sharedThrottle = new LogThrottle(LOG_SHARED_INTERVAL_MS, clock);
    const throttle = new LogThrottle(LOG_SUPPRESSED_INTERVAL_MS, clock);
    this.#limiter = new RecordLimiter(clock, () =>
      throttle.log((count) =>
        log.warn(
          { event: 'usage_records_suppressed', count },
          'usage records suppressed: more than their rate limit; metrics count all of them',
        ),
      ),
    );
  }

  /**
   * @param current values of the row `current` in the database
   * @throws StartupError. Call `close` in any case.
   */
  async open(
    { databasePath, logFd, retentionMs }: RelayConfig['usage'],
    current: () => CurrentState,
  ): Promise<void> {
    if (logFd !== null) this.#openLineWriter(logFd);
    if (databasePath !== null) await this.#openDatabase(databasePath, retentionMs, current);
    // Without outputs no record counts as suppressed.
    if (logFd !== null || databasePath !== null) this.#recorder.addSink(this.#limiter);
  }

  /** Records written to the database and lost, since the start. */
  get databaseRecords(): RecordCounts {
    return this.#database?.totals ?? { written: 0, dropped: 0 };
  }

  /** Records written to RELAY_LOG_FD and lost, since the start. */
  get logRecords(): RecordCounts {
    const dropped = this.#lineWriter?.dropped ?? 0;
    return { written: this.#submittedLines - dropped, dropped };
  }

  /** Records since the start that were not written because of the rate limit. */
  get suppressed(): SuppressedRecords {
    return this.#limiter.suppressed;
  }

  /** Records waiting to be written to the database. */
  get queued(): number {
    return this.#database?.queued ?? 0;
  }

  /** Why the database is not written now, in a sentence; null if it is, or if there is none. */
  get problem(): string | null {
    return this.#databaseProblem;
  }

  /** Null without a usage database, or if it is not known. */
  get databaseDisk(): DiskUse | null {
    return this.#database?.disk ?? null;
  }

  /** Writes all waiting records and closes the outputs. */
  async close(): Promise<void> {
    await this.#database?.close();
    await this.#lineWriter?.close();
  }

  #openLineWriter(logFd: number): void {
    const writer = new LineWriter(logFd, {
      onDropped: (count) =>
        this.#log.error({ event: 'usage_records_dropped', count }, 'usage records dropped'),
      onBroken: (code) =>
        this.#warnings
          .raising(this.#log)
          .error(
            { event: 'usage_log_broken', code },
            'writing usage records to RELAY_LOG_FD failed permanently; records are dropped',
          ),
    });
    this.#lineWriter = writer;
    this.#limiter.addSink({
      record: (record) => {
        writer.write(toJsonLine(record));
        this.#submittedLines += 1;
      },
    });
  }

  async #openDatabase(path: string, retentionMs: number | null, current: () => CurrentState): Promise<void> {
    const events: SqliteSinkEvents = {
      onFailed: ({ code, reason, failuresInARow: failures, queued }) => {
        this.#databaseProblem = writeProblem(code, reason);
        this.#warnings.raise('usage_database_write_failed', this.#databaseProblem);
        if (failures % LOG_EVERY_FAILURES !== 1) return;
        this.#log.warn(
          { event: 'usage_database_write_failed', code, failures, queued, reason },
          'usage database write failed; will retry',
        );
      },
      onRecovered: (failures) => {
        this.#databaseProblem = null;
        this.#warnings.clear('usage_database_write_failed');
        this.#log.info(
          { event: 'usage_database_write_recovered', failures },
          'usage database write recovered',
        );
      },
      onDropped: (count) =>
        this.#log.error({ event: 'usage_records_dropped', count }, 'usage records dropped'),
      onNotice: (notice) => this.#logNotice(notice),
      onDeleted: (count) =>
        this.#log.info(
          { event: 'usage_records_deleted', count },
          'deleted usage records older than RELAY_USAGE_RETENTION',
        ),
    };
    const retention = retentionMs === null ? null : { maxAgeMs: retentionMs };
    const sink = await SqliteSink.open(path, current, events, retention);
    this.#database = sink;
    this.#limiter.addSink(sink);
  }

  #logNotice(notice: DatabaseNotice): void {
    const log = this.#warnings.raising(this.#log);
    switch (notice.kind) {
      case 'rollback journal':
        log.warn(
          { event: 'usage_database_without_wal' },
          'usage database has no write-ahead log: its file system does not support shared memory; readers delay writes',
        );
        break;
      case 'wal blocked':
        log.warn(
          { event: 'usage_database_wal_grows', seconds: notice.seconds, bytes: notice.bytes },
          'usage database write-ahead log keeps growing: a program has kept a read transaction open',
        );
        break;
      case 'shared':
        this.#warnings.raise('usage_database_shared', SHARED_DATABASE, { forMs: SHARED_WARNING_MS });
        this.#sharedThrottle.log(() => this.#log.warn({ event: 'usage_database_shared' }, SHARED_DATABASE));
        break;
      case 'wal truncated':
        this.#warnings.clear('usage_database_wal_grows');
        log.info({ event: 'usage_database_wal_truncated' }, 'usage database write-ahead log truncated');
        break;
    }
  }
}

/** @param code of SQLite, or a sentence */
function writeProblem(code: string, reason: string | undefined): string {
  return `the usage database can't be written, and records wait in memory: ${reason ?? code}`;
}
