import type { Logger } from 'pino';
import type { Config } from './config/config.ts';
import { Seldom } from './logging.ts';
import { Output } from './output.ts';
import type { RelayFigures } from './status/relay-figures.ts';
import { createJsonLinesSink } from './usage/json-lines-sink.ts';
import { RecordLimiter } from './usage/record-limiter.ts';
import type { SuppressedRecords } from './usage/record-limiter.ts';
import type { Recorder } from './usage/recorder.ts';
import { SqliteSink } from './usage/sqlite-sink.ts';
import type { Notice } from './usage/sqlite-messages.ts';
import type { CurrentState, SqliteSinkEvents } from './usage/sqlite-sink.ts';

/** Failures of the database in a row are logged at the first, and then at every so many. */
const REPORT_EVERY_FAILURES = 12;

/** The shortest time between two log lines about suppressed records, in milliseconds. */
const REPORT_SUPPRESSED_MS = 60_000;

/** Where usage records go, and what the log says of it. */
export class RelayUsage {
  readonly #recorder: Recorder;
  readonly #log: Logger;
  /** Stands before all files; what is counted does not come through it. */
  readonly #limiter: RecordLimiter;
  readonly #closers: (() => Promise<void>)[] = [];
  #output: Output | null = null;
  /** Records that were handed to the output. */
  #handedOver = 0;
  #database: SqliteSink | null = null;

  /** @param clock milliseconds of a monotonic clock */
  constructor(recorder: Recorder, log: Logger, clock: () => number) {
    this.#recorder = recorder;
    this.#log = log;
    const seldom = new Seldom(REPORT_SUPPRESSED_MS, clock);
    this.#limiter = new RecordLimiter(clock, () =>
      seldom.happened((count) =>
        log.warn(
          { count },
          'usage records suppressed: more than their rate limit; metrics count all of them',
        ),
      ),
    );
  }

  /**
   * @param current what the database's row of that name has to say
   * @throws UsageDatabaseError or OutputError. `close` is due then as well.
   */
  async open(
    { databasePath, logFd, retentionMs }: Config['usage'],
    current: () => CurrentState,
  ): Promise<void> {
    if (logFd !== null) this.#openOutput(logFd);
    if (databasePath !== null) await this.#openDatabase(databasePath, retentionMs, current);
    // Where nothing is written, nothing is suppressed.
    if (logFd !== null || databasePath !== null) this.#recorder.addSink(this.#limiter);
  }

  /** Records since the start, by where they go. */
  totals(): RelayFigures['records'] {
    const dropped = this.#output?.dropped ?? 0;
    return {
      database: this.#database?.totals ?? { written: 0, dropped: 0 },
      log: { written: this.#handedOver - dropped, dropped },
    };
  }

  /** Records since the start that the rate limit kept from all files. */
  get suppressed(): SuppressedRecords {
    return this.#limiter.suppressed;
  }

  /** Records that wait for the database. */
  get queued(): number {
    return this.#database?.queued ?? 0;
  }

  /** Writes what there is to write. */
  async close(): Promise<void> {
    for (const closer of this.#closers.toReversed()) await closer();
    this.#closers.length = 0;
  }

  #openOutput(logFd: number): void {
    const output = new Output(logFd, {
      lost: (count) => this.#log.error({ count }, 'usage records are lost'),
      broken: (code) =>
        this.#log.error({ code }, 'usage records can not be written to RELAY_LOG_FD any more, and are lost'),
    });
    this.#closers.push(() => output.close());
    this.#output = output;
    this.#limiter.addSink(createJsonLinesSink(output));
    this.#limiter.addSink({ record: () => (this.#handedOver += 1) });
  }

  async #openDatabase(path: string, retentionMs: number | null, current: () => CurrentState): Promise<void> {
    const events: SqliteSinkEvents = {
      failed: ({ code, reason, failuresInARow: failures, queued }) => {
        if (failures % REPORT_EVERY_FAILURES !== 1) return;
        this.#log.warn(
          { code, failures, queued, reason },
          'the usage database can not be written; records wait',
        );
      },
      recovered: (failures) => this.#log.info({ failures }, 'the usage database is written again'),
      dropped: (count) => this.#log.error({ count }, 'usage records are lost'),
      noticed: (notice) => this.#logNotice(notice),
      deleted: (count) => this.#log.info({ count }, 'deleted usage records older than RELAY_USAGE_RETENTION'),
    };
    const retention = retentionMs === null ? null : { keepMs: retentionMs };
    const sink = await SqliteSink.open(path, current, events, retention);
    this.#closers.push(() => sink.close());
    this.#database = sink;
    this.#limiter.addSink(sink);
  }

  #logNotice(notice: Notice): void {
    switch (notice.kind) {
      case 'rollback journal':
        this.#log.warn(
          'usage database has no write-ahead log: its file system does not support shared memory; readers delay writes',
        );
        break;
      case 'log held':
        this.#log.warn(
          { seconds: notice.seconds, bytes: notice.bytes },
          'usage database log keeps growing: a program has kept a read transaction open',
        );
        break;
      case 'log released':
        this.#log.info('usage database log was truncated');
        break;
    }
  }
}
