/**
 * Layers from bottom to top, each with its files. A file imports from its own layer or from lower ones.
 * Type-only imports do not count.
 */
export const LAYERS: readonly (readonly [name: string, files: RegExp])[] = [
  ['protocol', /^protocol\//u],
  ['errors', /^process\/errors\.ts$/u],
  ['config', /^config\//u],
  ['process', /^process\/(?!errors\.ts$)/u],
  ['limits', /^limits\//u],
  ['transport', /^transport\//u],
  ['usage', /^usage\//u],
  ['sessions', /^sessions\//u],
  ['cluster', /^cluster\//u],
  ['acme', /^acme\//u],
  ['status', /^status\//u],
  ['relay', /^relay\//u],
  ['sidecar api', /^sidecar\/api\.ts$/u],
  ['dashboard', /^sidecar\/dashboard\//u],
  ['sidecar', /^sidecar\/(?!api\.ts$|dashboard\/)/u],
  ['cli', /^cli\//u],
  ['entries', /^(?:transit-relay|main|healthcheck|import)\.ts$/u],
];

/** Pairs of layers that do not import from each other in either direction, not even types. */
export const INDEPENDENT: readonly ReadonlySet<string>[] = [
  new Set(['usage', 'transport']),
  new Set(['usage', 'sessions']),
  new Set(['usage', 'cluster']),
  new Set(['sessions', 'status']),
  new Set(['cluster', 'status']),
  new Set(['sessions', 'sidecar']),
  new Set(['cluster', 'sidecar']),
  new Set(['acme', 'sessions']),
  new Set(['acme', 'cluster']),
  new Set(['acme', 'status']),
  new Set(['acme', 'sidecar']),
  new Set(['acme', 'dashboard']),
  new Set(['relay', 'sidecar']),
  // The page gets its data over HTTP, with the types of the sidecar's API.
  ...['config', 'process', 'limits', 'transport', 'usage', 'sessions', 'status', 'sidecar'].map(
    (layer) => new Set([layer, 'dashboard']),
  ),
];

/** Sources that only some files may import, by path inside src. This includes types. */
export const RESERVED: readonly { readonly what: RegExp; readonly by: RegExp }[] = [
  {
    what: /^cluster\//u,
    by: /^(?:cluster\/.*|relay\/cluster\.ts|sessions\/(?:client-session|session-manager)\.ts)$/u,
  },
  { what: /^acme\//u, by: /^(?:acme\/.*|relay\/acme\.ts)$/u },
  { what: /^acme-client$/u, by: /^acme\/order-process\.ts$/u },
];

/** Sources that a relay without a cluster, or without ACME, must not load. They are imported dynamically. */
export const LOADED_ON_DEMAND: ReadonlySet<string> = new Set(['relay/cluster.ts', 'relay/acme.ts']);

/** Files of packages that the sidecar serves at these paths. */
export const SERVED: ReadonlySet<string> = new Set(['sidecar/dashboard/uplot.js']);

/** Files that are imported as data. */
export const DATA: ReadonlySet<string> = new Set(['../package.json']);

/** Files that may use `process`: entries, files that run programs, and files that use Node's internals. */
export const MAY_USE_PROCESS: ReadonlySet<string> = new Set([
  'transit-relay.ts',
  'cli/check.ts',
  'cli/command-line.ts',
  'cli/healthcheck.ts',
  'cli/import.ts',
  'process/signals.ts',
  'process/program.ts',
  'sidecar/job-process.ts',
  'acme/order-process.ts',
  'healthcheck.ts',
  'import.ts',
  'cli/config.ts',
  'transport/uv-handle.ts',
  'process/process-metrics.ts',
  'process/require-node.cjs',
  'process/version.ts',
  'process/unused-exports.ts',
]);

/** Index of a file's layer; -1 if it is in none. */
export function layerOf(file: string): number {
  return LAYERS.findIndex(([, files]) => files.test(file));
}
