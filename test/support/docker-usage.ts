import { HARDENED, docker } from './docker.ts';

const CHECK = `
  const db = new (require('better-sqlite3'))('/data/usage.sqlite', { fileMustExist: true });
  const state = db.pragma('integrity_check', { simple: true });
  if (state !== 'ok') throw new Error(state);
  for (const row of db.prepare('SELECT result, total_bytes FROM usage ORDER BY rowid').all())
    console.log(row.result, row.total_bytes);
`;

/**
 * The records of the usage database in a volume, one per line, as `happy 4096`. Rejects if SQLite finds an
 * error in the file. The volume may be in use.
 */
export function rowsIn(image: string, volume: string): Promise<string> {
  const options = ['--rm', ...HARDENED, '--volume', `${volume}:/data`, '--entrypoint', 'node'];
  return docker('run', ...options, image, '--eval', CHECK);
}
