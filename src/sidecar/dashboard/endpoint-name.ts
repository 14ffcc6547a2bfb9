/**
 * A listener of the relay in a word or two: `TCP 4001`, `TLS 443`, `WebSocket 4002`, `/run/relay.sock`. What it can't read stays as it is.
 *
 * @param listener as the self-test names it: `raw tcp:4001:interface=127.0.0.1`, `websocket unix:/run/relay.sock`
 */
export function shortName(listener: string): string {
  const [, role, kind, rest = ''] =
    /^(raw|websocket) (tcp|ssl|unix):(?:port=|address=)?((?:\\.|[^:\\])*)/u.exec(listener) ?? [];
  if (role === undefined) return listener;
  const where = rest.replaceAll(/\\(.)/gu, '$1');
  if (role === 'websocket') return `WebSocket ${where}`;
  if (kind === 'unix') return where;
  return kind === 'ssl' ? `TLS ${where}` : `TCP ${where}`;
}
