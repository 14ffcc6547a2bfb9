import type { Health } from '../api.ts';
import { byId, make, setText } from './dom.ts';
import { shortName } from './endpoint-name.ts';
import { fetchJson } from './fetch-json.ts';
import { asSentence } from './headline.ts';

/** One pair of listeners, both ways, of `GET /health/transfer`. */
interface TestedTransfer {
  readonly from: string;
  readonly to: string;
  readonly ok: boolean;
  readonly milliseconds: number;
  readonly problem: string | null;
}

interface TransferHealth extends Health {
  readonly transfers?: readonly TestedTransfer[];
}

/** A failed test answers with this status, and in full. */
const UNAVAILABLE = 503;

/** Makes the button work that sends real bytes through the relay and says what came of it. */
export function offerSelfTest(): void {
  const button = byId('test-button', HTMLButtonElement);
  const result = byId('test-result', HTMLElement);
  async function test(): Promise<void> {
    button.disabled = true;
    setText(button, 'Testing…');
    result.replaceChildren(make('p', 'Sending bytes through the relay…', 'soft'));
    result.hidden = false;
    const outcome = await fetchJson<TransferHealth>('health/transfer', { accepts: [UNAVAILABLE] });
    if (outcome.kind === 'ok') result.replaceChildren(...describe(outcome.value));
    else result.replaceChildren(make('p', asSentence(outcome.problem), 'problem'));
    setText(button, 'Test a transfer');
    button.disabled = false;
  }
  button.addEventListener('click', () => void test());
}

function describe({ ok, problem, transfers = [] }: TransferHealth): HTMLElement[] {
  const verdict = ok
    ? 'Bytes went through the relay and came out the same.'
    : asSentence(problem ?? 'it failed');
  const sentence = make('p', verdict, ok ? 'fine' : 'problem');
  if (transfers.length === 0) return [sentence];
  const list = make('ul');
  list.append(...transfers.map(itemOf));
  return [sentence, list];
}

function itemOf({ from, to, ok, milliseconds, problem }: TestedTransfer): HTMLElement {
  const item = make('li', '', ok ? 'fine' : 'problem');
  const result = ok ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)}\u00a0ms` : (problem ?? 'failed');
  item.title = `${from}, ${to}`;
  item.append(make('span', `${shortName(from)} and ${shortName(to)}`), make('b', result));
  return item;
}
