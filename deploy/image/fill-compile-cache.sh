#!/bin/sh
# Runs every program of the image once, so that Node keeps what it has made of the sources in NODE_COMPILE_CACHE:
# without types, and compiled. A start takes half the time with it, and so does src/healthcheck.ts.
#
# Node takes the cache for the user who made it (1000 here) and for the same kind of processor. All others start as
# fast as without it; there is no warning.
set -eu

# A program has this many times half a second to become healthy; under emulation it takes long.
TRIES=120

scratch=$(mktemp -d)
export RELAY_LISTEN=tcp:4001 RELAY_WEBSOCKET_LISTEN=tcp:4002 RELAY_STATUS_LISTEN=tcp:4003:interface=127.0.0.1
export RELAY_USAGE_DB="$scratch/usage.sqlite" RELAY_LOG_LEVEL=warn
export SIDECAR_USAGE_DB="$scratch/usage.sqlite" SIDECAR_SNAPSHOT_DIR="$scratch/snapshots" SIDECAR_LOG_LEVEL=warn

# run_once SCRIPT WORD...: starts it, waits until the first check succeeds, makes the other ones, ends it. A program may be
# stopped at any moment; the checks see that all of it has run.
run_once() {
  script=$1
  first=$2
  shift 2
  node "$script" &
  program=$!
  tries=$TRIES
  until node src/healthcheck.ts "$first"; do
    tries=$((tries - 1))
    if [ "$tries" = 0 ] || ! kill -0 "$program"; then exit 1; fi
    sleep 0.5
  done
  for word in "$@"; do node src/healthcheck.ts "$word"; done
  # It writes its part of the cache when it ends by itself, and so do the processes that it has started.
  kill "$program"
  wait "$program"
}

run_once src/main.ts relay transfer
run_once src/sidecar/main.ts snapshot sidecar
rm -r "$scratch"
