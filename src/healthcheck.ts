import { runHealthcheck } from './cli/healthcheck.ts';

/** `transit-relay healthcheck` under its older name. */
process.exitCode = await runHealthcheck(process.argv[2] ?? '');
