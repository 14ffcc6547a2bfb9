import type { Live, Snapshot } from '../api.ts';
import { byId, bytesOf, setText } from './dom.ts';
import { fetchJson } from './fetch-json.ts';
import { NOTHING, formatAge, formatBytes, formatCount, formatMoment, formatUntil } from './format.ts';
import { asSentence } from './headline.ts';

/** Snapshots of a very large database take minutes, in milliseconds. */
const SNAPSHOT_TIMEOUT_MS = 30 * 60_000;

/** The database, its newest snapshot, and a button that takes one. */
export class StorageView {
  readonly #size = byId('database-size', HTMLElement);
  readonly #detail = byId('database-detail', HTMLElement);
  readonly #age = byId('snapshot-age', HTMLElement);
  readonly #about = byId('snapshot-detail', HTMLElement);
  readonly #link = byId('snapshot-link', HTMLAnchorElement);
  readonly #next = byId('snapshot-next', HTMLElement);
  readonly #problem = byId('snapshot-problem', HTMLElement);
  readonly #button = byId('snapshot-button', HTMLButtonElement);
  #ownProblem: string | null = null;
  #serversProblem: string | null = null;

  /** @param taken called when a snapshot was taken or could not be */
  constructor(taken: () => void) {
    this.#button.addEventListener('click', () => void this.#take(taken));
  }

  show({ now, database, snapshots }: Live): void {
    const nowMs = Date.parse(now);
    if (database.state === 'ok') {
      this.#size.replaceChildren(bytesOf(database.bytes));
      setText(this.#detail, `last written ${formatAge(Date.parse(database.modified), nowMs)}`);
    } else {
      setText(this.#size, database.state === 'missing' ? 'none yet' : 'unreadable');
      setText(this.#detail, asSentence(database.problem));
    }
    this.#showNewest(snapshots.newest, nowMs);
    const kept = snapshots.count === 1 ? '1 kept' : `${formatCount(snapshots.count)} kept`;
    setText(this.#next, `${kept}, the next one is due ${formatUntil(Date.parse(snapshots.next), nowMs)}`);
    this.#serversProblem = snapshots.problem;
    this.#showProblem();
  }

  #showNewest(newest: Snapshot | null, nowMs: number): void {
    this.#link.hidden = newest === null;
    if (newest === null) {
      setText(this.#age, 'none yet');
      setText(this.#about, NOTHING);
      return;
    }
    const address = `snapshots/${encodeURIComponent(newest.name)}`;
    if (this.#link.getAttribute('href') !== address) this.#link.href = address;
    this.#link.title = `${newest.name}, SHA-256 ${newest.sha256}`;
    setText(this.#link, `Download ${formatBytes(newest.bytes)}`);
    setText(this.#age, formatAge(Date.parse(newest.time), nowMs));
    const rows = `${formatCount(newest.rows)} ${newest.rows === 1 ? 'record' : 'records'}`;
    setText(this.#about, `${formatMoment(Date.parse(newest.time))}, ${rows}`);
  }

  async #take(taken: () => void): Promise<void> {
    this.#button.disabled = true;
    setText(this.#button, 'Taking one…');
    const outcome = await fetchJson('snapshots', { method: 'POST', timeoutMs: SNAPSHOT_TIMEOUT_MS });
    this.#ownProblem = outcome.kind === 'ok' ? null : outcome.problem;
    this.#showProblem();
    setText(this.#button, 'Take one now');
    this.#button.disabled = false;
    taken();
  }

  /** What the last click met comes first; otherwise what the schedule has met. */
  #showProblem(): void {
    const problem = this.#ownProblem ?? this.#serversProblem;
    this.#problem.hidden = problem === null;
    setText(this.#problem, problem === null ? '' : asSentence(problem));
  }
}
