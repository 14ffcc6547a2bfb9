import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Variables of the image, from the last stage of the Dockerfile. */
export function imageSettings(): Readonly<Record<string, string>> {
  const dockerfile = readFileSync(join(import.meta.dirname, '..', '..', 'Dockerfile'), 'utf8');
  const last = dockerfile.split(/^FROM .*$/mu).at(-1) ?? '';
  const [, lines = ''] = /^ENV ((?:.*\\\n)*.*)$/mu.exec(last) ?? [];
  const words = lines.replaceAll('\\\n', ' ').trim().split(/\s+/u);
  return Object.fromEntries(words.map((word) => word.split('=', 2)));
}
