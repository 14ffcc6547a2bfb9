import type { LiveStatus, Snapshot } from '../api.ts';
import { byId, bytesElement, setText } from './dom.ts';
import { fetchJson } from './fetch-json.ts';
import {
  PLACEHOLDER,
  formatAge,
  formatBytes,
  formatCount,
  formatDateTime,
  formatUntil,
  toSentence,
} from './format.ts';

/** Timeout of a snapshot, in milliseconds: very large databases take minutes. */
const SNAPSHOT_TIMEOUT_MS = 30 * 60_000;

/** The database, its newest snapshot, and a button that takes one. */
export class StorageView {
  readonly #size = byId('database-size', HTMLElement);
  readonly #detail = byId('database-detail', HTMLElement);
  readonly #age = byId('snapshot-age', HTMLElement);
  readonly #snapshotDetail = byId('snapshot-detail', HTMLElement);
  readonly #link = byId('snapshot-link', HTMLAnchorElement);
  readonly #next = byId('snapshot-next', HTMLElement);
  readonly #problem = byId('snapshot-problem', HTMLElement);
  readonly #button = byId('snapshot-button', HTMLButtonElement);
  #requestProblem: string | null = null;
  #scheduleProblem: string | null = null;

  /** @param onTaken called after a snapshot succeeded or failed */
  constructor(onTaken: () => void) {
    this.#button.addEventListener('click', () => void this.#take(onTaken));
  }

  show({ now, database, snapshots }: LiveStatus): void {
    const nowMs = Date.parse(now);
    if (database.state === 'ok') {
      this.#size.replaceChildren(bytesElement(database.bytes));
      setText(this.#detail, `last written ${formatAge(Date.parse(database.modified), nowMs)}`);
    } else {
      setText(this.#size, database.state === 'missing' ? 'none yet' : 'unreadable');
      setText(this.#detail, toSentence(database.problem));
    }
    this.#showNewest(snapshots.newest, nowMs);
    const kept = snapshots.count === 1 ? '1 kept' : `${formatCount(snapshots.count)} kept`;
    setText(this.#next, `${kept}, the next one is due ${formatUntil(Date.parse(snapshots.next), nowMs)}`);
    this.#scheduleProblem = snapshots.problem;
    this.#showProblem();
  }

  #showNewest(newest: Snapshot | null, nowMs: number): void {
    this.#link.hidden = newest === null;
    if (newest === null) {
      setText(this.#age, 'none yet');
      setText(this.#snapshotDetail, PLACEHOLDER);
      return;
    }
    const address = `snapshots/${encodeURIComponent(newest.name)}`;
    if (this.#link.getAttribute('href') !== address) this.#link.href = address;
    this.#link.title = `${newest.name}, SHA-256 ${newest.sha256}`;
    setText(this.#link, `Download ${formatBytes(newest.bytes)}`);
    setText(this.#age, formatAge(Date.parse(newest.time), nowMs));
    const rows = `${formatCount(newest.rows)} ${newest.rows === 1 ? 'record' : 'records'}`;
    setText(this.#snapshotDetail, `${formatDateTime(Date.parse(newest.time))}, ${rows}`);
  }

  async #take(onTaken: () => void): Promise<void> {
    this.#button.disabled = true;
    setText(this.#button, 'Taking one…');
    const outcome = await fetchJson('snapshots', { method: 'POST', timeoutMs: SNAPSHOT_TIMEOUT_MS });
    this.#requestProblem = outcome.kind === 'ok' ? null : outcome.problem;
    this.#showProblem();
    setText(this.#button, 'Take one now');
    this.#button.disabled = false;
    onTaken();
  }

  /** Shows the problem of the last click; otherwise that of the schedule. */
  #showProblem(): void {
    const problem = this.#requestProblem ?? this.#scheduleProblem;
    this.#problem.hidden = problem === null;
    setText(this.#problem, problem === null ? '' : toSentence(problem));
  }
}
