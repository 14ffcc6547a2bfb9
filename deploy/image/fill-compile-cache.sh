#!/bin/sh
# Runs every program of the image once, so that Node stores the compiled sources (without types) in
# NODE_COMPILE_CACHE. This halves the start time, also of src/healthcheck.ts.
#
# Node uses the cache only for the user who created it (1000 here) and the same kind of processor. Otherwise
# programs start as fast as without it, without a warning.
set -eu

# A program has this many times half a second to become healthy; emulation is slow.
TRIES=120

scratch=$(mktemp -d)
export RELAY_LISTEN=tcp:4001 RELAY_WEBSOCKET_LISTEN=tcp:4002 RELAY_STATUS_LISTEN=tcp:4003:interface=127.0.0.1
export RELAY_USAGE_DB="$scratch/usage.sqlite" RELAY_LOG_LEVEL=warn
export SIDECAR_USAGE_DB="$scratch/usage.sqlite" SIDECAR_SNAPSHOT_DIR="$scratch/snapshots" SIDECAR_LOG_LEVEL=warn

# run_once PROGRAM WORD COMMAND...: starts it, waits until this health check succeeds, runs the other commands,
# stops it. A program may be stopped at any moment; the commands ensure that all of its code has run.
run_once() {
  name=$1
  first=$2
  shift 2
  node src/transit-relay.ts "$name" &
  program=$!
  tries=$TRIES
  until node src/healthcheck.ts "$first"; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ] || ! kill -0 "$program"; then exit 1; fi
    sleep 0.5
  done
  # shellcheck disable=SC2086 # Each command is several words.
  for command in "$@"; do node src/transit-relay.ts $command; done
  # A program and its child processes write their part of the cache when they exit by themselves.
  kill "$program"
  wait "$program"
}

run_once serve relay 'healthcheck transfer' 'check --size=1MB tcp:127.0.0.1:4001 ws://127.0.0.1:4002'
# A relay that requests a certificate and gets none.
(
  export RELAY_LISTEN=ssl:4001 RELAY_ACME_DOMAIN=relay.example.org RELAY_ACME_AGREE=true
  export RELAY_ACME_DIRECTORY=https://127.0.0.1:10443/ RELAY_LOG_LEVEL=fatal
  node src/transit-relay.ts serve &
  program=$!
  tries=$TRIES
  until [ -e "$scratch/acme/orders.json" ] && [ ! -e "$scratch/acme/lock" ]; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ] || ! kill -0 "$program"; then exit 1; fi
    sleep 0.5
  done
  # The process of the request exits by itself.
  sleep 1
  kill "$program"
  wait "$program"
)
run_once sidecar snapshot 'healthcheck sidecar'
node src/transit-relay.ts config --check
rm -r "$scratch"
