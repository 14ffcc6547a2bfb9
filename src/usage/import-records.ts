import { MOODS } from '../protocol/wire.ts';
import { ImportSource } from './import-source.ts';
import { ImportTarget } from './import-target.ts';

/** What records are counted as whose mood is none of ours. */
const OTHER = 'other';

/**
 * Copies the transit relay's records out of the database of a combined server into a new usage database: all of them, or there
 * is no new database. Values are what they were, strange ones too: who reads a usage database has to expect them of
 * the reference anyway, and a record that is left out would be missed in the sums.
 *
 * @returns how many records there are of each mood, the most first
 * @throws ImportError
 */
export function importRecords(oldPath: string, newPath: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  const source = new ImportSource(oldPath);
  try {
    const target = new ImportTarget(newPath);
    try {
      source.forEach((record) => {
        target.add(record);
        const mood = MOODS.find((known) => known === record.at(-1)) ?? OTHER;
        counts.set(mood, (counts.get(mood) ?? 0) + 1);
      });
      target.finish();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
  return new Map([...counts].toSorted(([, one], [, other]) => other - one));
}
