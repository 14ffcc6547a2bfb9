import { setFlagsFromString } from 'node:v8';
import { readEnv } from './config/read-env.ts';
import { QuotaFileError } from './limits/quota-file.ts';
import { CertificateError } from './net/certificates.ts';
import { ListenError } from './net/listener.ts';
import { OutputError } from './output.ts';
import { runProgram } from './program.ts';
import { Relay } from './relay.ts';
import { UsageDatabaseError } from './usage/sqlite-sink.ts';

// What moving bytes leaves behind is little and short-lived. Left to itself V8 takes it for a reason to
// grow the young generation to 128 MiB, and keeps that.
setFlagsFromString('--semi-space-growth-factor=1');

await runProgram({
  read: readEnv,
  create: (config, log) => new Relay(config, log),
  refusals: [ListenError, CertificateError, QuotaFileError, UsageDatabaseError, OutputError],
});
