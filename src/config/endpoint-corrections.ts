/** Names of plain TCP. Endpoints with TLS need a certificate, which cannot be guessed. */
const TCP_NAMES = '(?:tcp[46]?|http|ws)';

/** An IPv6 address in brackets, an IPv4 address, a name, or a wildcard. */
const HOST = String.raw`(\[[^\]]+\]|[^\s:/=[\]\\]+)`;

const PORT = String.raw`(\d{1,5})`;

const PATTERNS: readonly (readonly [
  pattern: RegExp,
  correct: (groups: readonly string[]) => string | null,
])[] = [
  // tcp://0.0.0.0:4001, http://localhost:4001/, ws://:4001, tcp:127.0.0.1:4001
  [
    new RegExp(String.raw`^${TCP_NAMES}:(?://)?${HOST}?:${PORT}/?$`, 'iu'),
    ([host = '', port = '']) => hostAndPort(host, port),
  ],
  // tcp://4001
  [new RegExp(String.raw`^${TCP_NAMES}://${PORT}/?$`, 'iu'), ([port]) => `tcp:${port}`],
  // 4001/tcp of Docker
  [new RegExp(String.raw`^${PORT}/tcp$`, 'iu'), ([port]) => `tcp:${port}`],
  // TCP:4001, tcp4:4001, tcp=4001, port=4001
  [new RegExp(String.raw`^(?:tcp[46]?|port)[:=]${PORT}$`, 'iu'), ([port]) => `tcp:${port}`],
  // localhost:4001, *:4001
  [new RegExp(String.raw`^${HOST}:${PORT}$`, 'u'), ([host = '', port = '']) => hostAndPort(host, port)],
  // tcp:4001:interface=::1
  [
    new RegExp(String.raw`^tcp:${PORT}:interface=\[?([\da-f:.]*:[\da-f:.]*)\]?$`, 'iu'),
    ([port = '', host = '']) => hostAndPort(`[${host}]`, port),
  ],
  // tcp:4001:127.0.0.1, tcp:4001:interface=localhost
  [
    new RegExp(String.raw`^tcp:${PORT}:(?:interface=)?${HOST}$`, 'iu'),
    ([port = '', host = '']) => hostAndPort(host, port),
  ],
  // /run/relay.sock
  [/^(\/[^:=\\]*)$/u, ([path]) => `unix:${path}`],
];

/**
 * Corrects an invalid endpoint. Returns null if it is not clear what was meant. The result may be invalid for
 * another reason.
 */
export function correctEndpoint(text: string): string | null {
  for (const [pattern, correct] of PATTERNS) {
    const [found, ...groups] = pattern.exec(text) ?? [];
    if (found !== undefined) return correct(groups);
  }
  return null;
}

/** Names are not resolved, except the one that every host has. */
function hostAndPort(host: string, port: string): string | null {
  if (host === '' || host === '*') return `tcp:${port}`;
  if (host.toLowerCase() === 'localhost') return `127.0.0.1:${port}`;
  return host === port ? null : `${host}:${port}`;
}
