/**
 * Values that the image sets (`ENV` in the Dockerfile) or docker-compose.yml. An operator who has not set them
 * does not want to read about them.
 */
const DEPLOYMENT_DEFAULTS: ReadonlyMap<string, string> = new Map([
  ['RELAY_LISTEN', 'tcp:4001'],
  ['RELAY_WEBSOCKET_LISTEN', 'tcp:4002'],
  ['RELAY_STATUS_LISTEN', 'tcp:4003'],
  ['RELAY_USAGE_DB', '/data/usage.sqlite'],
  ['RELAY_DRAIN_TIMEOUT', '10m'],
  ['SIDECAR_USAGE_DB', '/data/usage.sqlite'],
  ['SIDECAR_SNAPSHOT_DIR', '/data/snapshots'],
]);

/** True if the image or docker-compose.yml probably set this value, not the operator. */
export function isDeploymentDefault(variable: string, value: string): boolean {
  return DEPLOYMENT_DEFAULTS.get(variable) === value;
}

/**
 * Settings of docker-compose.yml and the files beside it that the programs do not read, and the variable for the
 * same purpose elsewhere. The containers get all settings of the `.env` file.
 */
export const COMPOSE_SETTINGS: ReadonlyMap<string, string | null> = new Map([
  ['RELAY_IMAGE', null],
  ['RELAY_ENV_FILE', null],
  ['RELAY_PORT', 'RELAY_LISTEN'],
  ['RELAY_WEBSOCKET_PORT', 'RELAY_WEBSOCKET_LISTEN'],
  ['RELAY_STATUS_PORT', 'RELAY_STATUS_LISTEN'],
  ['RELAY_HTTP_PORT', null],
  ['RELAY_HTTPS_PORT', 'RELAY_LISTEN'],
  ['RELAY_DOMAIN', null],
  ['RELAY_MEMORY_LIMIT', null],
  ['RELAY_STOP_GRACE_PERIOD', null],
  ['RELAY_CLUSTER_PASSWORD', 'RELAY_CLUSTER_URL'],
  ['SIDECAR_PORT', 'SIDECAR_LISTEN'],
  ['SIDECAR_MEMORY_LIMIT', null],
]);

/** docker-compose.yml sets it, so that a container knows that these settings have an effect. */
export const COMPOSE_MARKER = 'TRANSIT_RELAY_COMPOSE';
