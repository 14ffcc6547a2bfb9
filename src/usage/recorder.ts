import { blur, blurBytes, blurCount } from './blur.ts';
import type { UsageRecord } from './record.ts';

/** Where records go. `record` must not wait and must not throw. */
export interface RecordSink {
  record(record: UsageRecord): void;
}

/** Blurs each record once and hands it to every sink. */
export class Recorder {
  /** Granularity of the records' start; 0: they are exact. */
  readonly blurSeconds: number;
  readonly #sinks: RecordSink[] = [];

  constructor(blurSeconds: number) {
    this.blurSeconds = blurSeconds;
  }

  addSink(sink: RecordSink): void {
    this.#sinks.push(sink);
  }

  record(record: UsageRecord): void {
    const blurred = blur(record, this.blurSeconds);
    for (const sink of this.#sinks) sink.record(blurred);
  }

  /** A live count of bytes, no finer than the records will be. */
  visibleBytes(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurBytes(bytes);
  }

  /** A count of bytes that grows as long as the relay runs, in steps no finer than the smallest of the records. */
  visibleCount(bytes: number): number {
    return this.blurSeconds === 0 ? bytes : blurCount(bytes);
  }
}
