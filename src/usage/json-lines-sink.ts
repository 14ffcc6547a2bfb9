import type { Output } from '../output.ts';
import type { RecordSink } from './recorder.ts';
import { toJsonLine } from './record.ts';

/** One JSON line a record, for the operator's own tools. */
export function createJsonLinesSink(output: Output): RecordSink {
  return { record: (record) => output.write(toJsonLine(record)) };
}
