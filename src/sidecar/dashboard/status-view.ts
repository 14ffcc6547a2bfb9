import { byId, setText } from './dom.ts';
import type { Headline } from './headline.ts';

/** The card at the top: is the relay up. */
export class StatusView {
  readonly #card = byId('status', HTMLElement);
  readonly #headline = byId('headline', HTMLElement);
  readonly #detail = byId('headline-detail', HTMLElement);

  show({ tone, title, detail, short }: Headline): void {
    this.#card.dataset['tone'] = tone;
    setText(this.#headline, title);
    setText(this.#detail, detail);
    document.title = short === 'Transit Relay' ? short : `${short} · Transit Relay`;
  }
}
