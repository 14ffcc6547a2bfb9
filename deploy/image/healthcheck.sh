#!/bin/bash
# One health check of the image: healthcheck.sh relay|sidecar [SECONDS]. Prints one line and exits with 0 or 1.
#
# A container runs it continuously, and it must succeed on a busy machine. So it is pure bash: about 3 ms of
# CPU, where Node.js takes 50. src/healthcheck.ts does the same for endpoints of every kind and has the other
# checks.
#
# Docker starts a check a fixed time after the end of the previous one, and before Engine 25 that time is the
# same for starting and healthy containers. With SECONDS, a successful check ends that much later if the
# container is older than half a minute: checks are frequent until it is healthy and after a failure, and rare
# otherwise.
set -u

# Timeout of a request, in seconds. HEALTHCHECK and the probes of Kubernetes allow more.
TIMEOUT=4

# Maximum characters of a response; the relay and the sidecar send less.
MAX_ANSWER=65536

# Age of a container after which it no longer counts as starting, in hundredths of a second.
OLD=3000

check=${1-}
pause=${2-0}

finish() {
  echo "$check: $2"
  exit "$1"
}

# Whether the container has been running for that long.
is_old() {
  local uptime stat fields
  read -r uptime _ </proc/uptime
  read -r stat </proc/1/stat
  # The second field is a name in parentheses, which may contain spaces. The 22nd is the start time, in clock
  # ticks of hundredths of a second on Linux.
  read -r -a fields <<<"${stat##*) }"
  [ $((10#${uptime/./} - fields[19])) -gt $OLD ]
}

case $check in
  relay) variable=RELAY_STATUS_LISTEN default=tcp:4003 path=/health/relay ;;
  sidecar) variable=SIDECAR_LISTEN default=tcp:4004 path=/healthz ;;
  *) exec node src/healthcheck.ts "$@" ;;
esac
file=${variable}_FILE

# Only the usual endpoints are parsed here: a port other than 0, with or without an IPv4 address.
if [ -z "${!file-}" ] && [[ ${!variable-$default} =~ ^(tcp:)?([1-9][0-9]{0,4})(:interface=([0-9.]+))?$ ]]; then
  port=${BASH_REMATCH[2]} host=${BASH_REMATCH[4]:-127.0.0.1}
else
  exec node src/healthcheck.ts "$check"
fi
if [ "$host" = 0.0.0.0 ]; then host=127.0.0.1; fi

{ exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || finish 1 "nothing listens on $variable"
printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
# Reads to the end of the connection. The status is above 128 on a timeout.
IFS= read -r -d '' -n "$MAX_ANSWER" -t "$TIMEOUT" answer <&3 2>/dev/null
if [ $? -gt 128 ]; then finish 1 "no response at $variable within $TIMEOUT s"; fi

report=${answer#*$'\r\n\r\n'}
if [[ $report == '{"ok":true'[,}]* ]]; then
  if [ "$pause" = 0 ] || ! is_old; then finish 0 ok; fi
  echo "$check: ok"
  exec sleep "$pause"
fi
if [[ $report =~ ^\{\"ok\":false,\"problem\":\"([^\"]+)\" ]]; then finish 1 "${BASH_REMATCH[1]}"; fi
finish 1 "unexpected response at $variable"
