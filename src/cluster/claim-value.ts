import type { Owner } from '../net/elsewhere.ts';
import { parseHostPort } from '../net/host-port.ts';

/** Changes when a relay that knows the old form could not make sense of the new one. */
const VERSION = '1';

/** No value is longer, in characters: a name in DNS has 253, and a port up to five. */
const FORM = /^1 (?<id>[\w-]{8,64}) (?<address>[\x21-\x7e]{3,262})$/u;

/** What is under a token's key: who claims it. */
export function encodeOwner({ id, address }: Owner): string {
  return `${VERSION} ${id} ${address}`;
}

/** Null for what no relay of this version has written: the id or the address has another form. */
export function decodeOwner(value: string): Owner | null {
  const { id, address } = FORM.exec(value)?.groups ?? {};
  return id === undefined || address === undefined || parseHostPort(address) === null
    ? null
    : { id, address };
}
