/** From bottom to top, each with the files it holds: a file imports from its own room or from lower ones. */
export const ROOMS: readonly (readonly [name: string, files: RegExp])[] = [
  // Lowest, so that it knows nothing of the others; the protocol imports nothing but itself anyway.
  ['process metrics', /^process-metrics\.ts$/u],
  ['protocol', /^protocol\//u],
  ['error code', /^error-code\.ts$/u],
  ['endpoint', /^net\/(?:endpoint|host-port|trusted-proxies)\.ts$/u],
  ['config', /^config\//u],
  ['signals', /^signals\.ts$/u],
  ['output', /^output\.ts$/u],
  ['logging', /^logging\.ts$/u],
  ['program', /^program\.ts$/u],
  ['listener', /^net\/(?:http-)?listener\.ts$/u],
  ['usage', /^usage\//u],
  ['limits', /^limits\//u],
  // Four of its files lie lower; the rest of the folder is this room.
  ['net', /^net\/(?!(?:endpoint|host-port|trusted-proxies|listener|http-listener)\.ts$)/u],
  ['status', /^status\//u],
  ['cluster', /^cluster\//u],
  ['sidecar api', /^sidecar\/api\.ts$/u],
  ['dashboard', /^sidecar\/dashboard\//u],
  ['sidecar', /^sidecar\/(?!api\.ts$|dashboard\/)/u],
  ['relay', /^relay(?:-[a-z]+)?\.ts$/u],
  ['main', /^main\.ts$/u],
  ['healthcheck', /^healthcheck\.ts$/u],
  ['import', /^import\.ts$/u],
];

/** Rooms that know nothing of each other, though one has to lie above the other. */
export const STRANGERS: readonly ReadonlySet<string>[] = [
  new Set(['usage', 'net']),
  new Set(['net', 'status']),
  new Set(['net', 'sidecar']),
  // The page gets everything by HTTP; of the rest of the sidecar it knows what is said there.
  new Set(['dashboard', 'sidecar']),
  ...['process metrics', 'config', 'output', 'usage', 'net', 'status'].map(
    (room) => new Set([room, 'dashboard']),
  ),
  new Set(['sidecar', 'relay']),
  // It has wires and tokens, and is told the rest; what is to be logged or counted is said to who made it.
  ...['process metrics', 'config', 'output', 'logging', 'program', 'usage', 'status'].map(
    (room) => new Set([room, 'cluster']),
  ),
  ...['sidecar api', 'dashboard', 'sidecar'].map((room) => new Set([room, 'cluster'])),
];

/** Sources that only some files may import, by their path inside src; types are no exception. */
export const RESERVED: readonly { readonly what: RegExp; readonly by: RegExp }[] = [
  { what: /^cluster\//u, by: /^(?:cluster\/.*|relay-cluster\.ts)$/u },
];

/** What a program without a group must not load: it is imported when it is needed, and its types whenever. */
export const LOADED_LATE: ReadonlySet<string> = new Set(['relay-cluster.ts']);

/** What a browser finds there, though it lies elsewhere. */
export const SERVED: ReadonlySet<string> = new Set(['sidecar/dashboard/uplot.js']);

/** What is no source, and tells the version. */
export const DATA: ReadonlySet<string> = new Set(['../package.json']);

/** What runs programs; what finds something there: Node's own parts in two files, and its version in another. */
export const MAY_TOUCH_PROCESS: ReadonlySet<string> = new Set([
  'signals.ts',
  'program.ts',
  'sidecar/job-process.ts',
  'healthcheck.ts',
  'import.ts',
  'net/handle.ts',
  'net/tls-handle.ts',
  'process-metrics.ts',
]);

/** Where in the list of rooms a file is; -1: in none. */
export function roomOf(file: string): number {
  return ROOMS.findIndex(([, files]) => files.test(file));
}
