#!/bin/bash
# repeat.sh COUNT PAUSE COMMAND...: runs a command COUNT times with a pause in seconds before each run. Its input must stay
# open. Prints the microseconds of each run, and in the last line the user and system CPU seconds of all runs with their
# child processes.
set -eu
count=$1 pause=$2
shift 2
# For the output of the command.
exec 3>&2
TIMEFORMAT='%3U %3S'

run_all() {
  local start end i
  for ((i = 0; i < count; i++)); do
    # A pause without a process.
    read -r -t "$pause" || true
    start=${EPOCHREALTIME/./}
    "$@" </dev/null >&3 2>&3 || exit 1
    end=${EPOCHREALTIME/./}
    echo $((end - start))
  done
}

{ time run_all "$@"; } 2>&1
