import type { LiveStatus, Snapshot } from '../api.ts';
import { byId, bytesElement, setText } from './dom.ts';
import {
  formatAge,
  formatBytes,
  formatCount,
  formatCounted,
  formatDateTime,
  formatUntil,
  toSentence,
} from './format.ts';
import { fetchJson } from './requests.ts';

/** Timeout of a snapshot, in milliseconds: very large databases take minutes. */
const SNAPSHOT_TIMEOUT_MS = 30 * 60_000;

/** The database, its newest snapshot, and a button that takes one. */
export class StorageView {
  readonly #button = byId('snapshot-button', HTMLButtonElement);
  #requestProblem: string | null = null;
  #scheduleProblem: string | null = null;

  /** @param onTaken called after a snapshot succeeded or failed */
  constructor(onTaken: () => void) {
    this.#button.addEventListener('click', () => void this.#take(onTaken));
  }

  show({ now, database, snapshots }: LiveStatus): void {
    const nowMs = Date.parse(now);
    const size = byId('database-size', HTMLElement);
    const detail = byId('database-detail', HTMLElement);
    if (database.state === 'ok') {
      size.replaceChildren(bytesElement(database.bytes));
      setText(detail, `last written ${formatAge(Date.parse(database.modified), nowMs)}`);
    } else {
      setText(size, database.state === 'missing' ? 'none yet' : 'unreadable');
      setText(detail, toSentence(database.problem));
    }
    showNewest(snapshots.newest, nowMs);
    const next = `the next one is due ${formatUntil(Date.parse(snapshots.next), nowMs)}`;
    setText(byId('snapshot-next', HTMLElement), `${formatCount(snapshots.count)} kept, ${next}`);
    this.#scheduleProblem = snapshots.problem;
    this.#showProblem();
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
    const element = byId('snapshot-problem', HTMLElement);
    element.hidden = problem === null;
    setText(element, problem === null ? '' : toSentence(problem));
  }
}

function showNewest(newest: Snapshot | null, nowMs: number): void {
  const age = byId('snapshot-age', HTMLElement);
  const detail = byId('snapshot-detail', HTMLElement);
  const link = byId('snapshot-link', HTMLAnchorElement);
  link.hidden = newest === null;
  if (newest === null) {
    setText(age, 'none yet');
    setText(detail, '');
    return;
  }
  link.href = `snapshots/${encodeURIComponent(newest.name)}`;
  link.title = `${newest.name}, SHA-256 ${newest.sha256}`;
  setText(link, `Download ${formatBytes(newest.bytes)}`);
  setText(age, formatAge(Date.parse(newest.time), nowMs));
  const rows = formatCounted(newest.rows, 'record');
  setText(detail, `${formatDateTime(Date.parse(newest.time))}, ${rows}`);
}
