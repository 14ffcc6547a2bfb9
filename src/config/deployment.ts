/**
 * Variables that the image sets (`ENV` in the Dockerfile) and docker-compose.yml sets for both programs. An operator
 * who has not set them does not want to read about them.
 */
export const DEPLOYMENT_DEFAULTS: ReadonlyMap<string, readonly string[]> = new Map([
  ['RELAY_LISTEN', ['tcp:4001']],
  ['RELAY_WEBSOCKET_LISTEN', ['tcp:4002']],
  ['RELAY_STATUS_LISTEN', ['tcp:4003']],
  ['RELAY_USAGE_DB', ['/data/usage.sqlite']],
  ['SIDECAR_USAGE_DB', ['/data/usage.sqlite']],
  ['SIDECAR_SNAPSHOT_DIR', ['/data/snapshots']],
]);
