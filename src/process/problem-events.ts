/**
 * The events of log lines at level `warn` and above, each with a heading in docs/troubleshooting.md. The names are
 * stable: operators search for them and set alerts on them.
 */
export const PROBLEM_EVENTS = [
  // The process.
  'invalid_configuration',
  'start_failed',
  'internal_error',
  'log_lines_dropped',
  'node_warning',
  'worker_stuck',
  // The configuration.
  'unknown_variable',
  'renamed_variable',
  'setting_without_effect',
  'insecure_setting',
  // Capacity and limits.
  'clients_rejected',
  'connections_above_file_descriptors',
  'connections_above_memory',
  'buffers_above_memory',
  'accept_failed',
  'shared_address',
  'memory_shortage',
  'stalled_pairs_ended',
  'quota_almost_exhausted',
  'quota_exhausted',
  'quota_save_failed',
  'drain_timeout',
  // Certificates.
  'certificate_expired',
  'certificate_not_yet_valid',
  'certificate_expires_soon',
  'certificate_reload_failed',
  'acme_failed',
  // The I/O backend.
  'io_backend_fallback',
  'tls_backend_fallback',
  // Usage records.
  'usage_database_write_failed',
  'usage_database_without_wal',
  'usage_database_wal_grows',
  'usage_database_shared',
  'usage_records_dropped',
  'usage_records_suppressed',
  'usage_log_broken',
  // The cluster.
  'cluster_address_conflict',
  'cluster_connect_failed',
  'cluster_peer_rejected',
  'cluster_secret_mismatch',
  'coordinator_down',
  // The sidecar.
  'snapshot_failed',
  'usage_csv_aborted',
] as const;

export type ProblemEvent = (typeof PROBLEM_EVENTS)[number];
