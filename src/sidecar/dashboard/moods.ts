/** One way to end, as the page shows it. */
export interface MoodEntry {
  readonly name: MoodName;
  readonly meaning: string;
  /** CSS custom property that holds its colour. */
  readonly colour: string;
}

export type MoodName = (typeof NAMES)[number];

/** What the database may say besides the moods that are known here. */
const OTHER = 'other';

const NAMES = ['happy', 'lonely', 'redundant', 'impatient', 'errory', 'empty', OTHER] as const;

const MEANINGS: Readonly<Record<MoodName, string>> = {
  happy: 'Two clients were connected',
  lonely: 'Left before a partner came',
  redundant: 'Not needed, its partner used another connection',
  impatient: 'Sent data before it had a partner',
  errory: 'Did not speak the relay’s protocol',
  empty: 'Left without a word, as port scans do',
  other: 'Moods that this page does not know',
};

/** In the order in which they are stacked, from the axis up. */
export const MOODS: readonly MoodEntry[] = NAMES.map((name) => ({
  name,
  meaning: MEANINGS[name],
  colour: `--mood-${name}`,
}));

export function moodName(mood: string): MoodName {
  return NAMES.find((name) => name === mood) ?? OTHER;
}
