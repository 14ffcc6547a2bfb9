import type { Health } from '../api.ts';
import { byId, createElement, setText } from './dom.ts';
import { formatListener, toSentence } from './format.ts';
import { fetchJson } from './requests.ts';

/** One pair of listeners in `GET /health/transfer`, tested in both directions. */
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

/** The status of a failed test, which has a full response. */
const HTTP_UNAVAILABLE = 503;

/** Sets up the button that sends real bytes through the relay and shows the result. */
export function initSelfTest(): void {
  const button = byId('test-button', HTMLButtonElement);
  const result = byId('test-result', HTMLElement);
  async function test(): Promise<void> {
    button.disabled = true;
    setText(button, 'Testing…');
    result.replaceChildren(createElement('p', 'Sending bytes through the relay…', 'soft'));
    result.hidden = false;
    const outcome = await fetchJson<TransferHealth>('health/transfer', { accepts: [HTTP_UNAVAILABLE] });
    if (outcome.kind === 'ok') result.replaceChildren(...selfTestElements(outcome.value));
    else result.replaceChildren(createElement('p', toSentence(outcome.problem), 'problem'));
    setText(button, 'Test a transfer');
    button.disabled = false;
  }
  button.addEventListener('click', () => void test());
}

function selfTestElements({ ok, problem, transfers = [] }: TransferHealth): HTMLElement[] {
  const verdict = ok ? 'The relay transferred all bytes correctly.' : toSentence(problem ?? 'it failed');
  const sentence = createElement('p', verdict, ok ? 'fine' : 'problem');
  if (transfers.length === 0) return [sentence];
  const list = createElement('ul');
  list.append(...transfers.map(transferElement));
  return [sentence, list];
}

function transferElement({ from, to, ok, milliseconds, problem }: TestedTransfer): HTMLElement {
  const item = createElement('li', '', ok ? 'fine' : 'problem');
  const result = ok ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)}\u00a0ms` : (problem ?? 'failed');
  item.title = `${from}, ${to}`;
  item.append(
    createElement('span', `${formatListener(from)} and ${formatListener(to)}`),
    createElement('b', result),
  );
  return item;
}
