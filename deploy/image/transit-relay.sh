#!/bin/sh
# The command transit-relay of the image, and its entrypoint: every program that is not a word of the command
# line runs as it is, so that `docker run IMAGE sh` and `docker run IMAGE node src/main.ts` work.
case ${1-serve} in
  serve)
    # V8 limits its heap to half of the container's memory, but not below 256 MiB. This setting is half for
    # small containers too. It is not in NODE_OPTIONS because it would override the limit that the sidecar
    # sets for its job processes.
    exec node --max-old-space-size-percentage=50 /app/src/transit-relay.ts "$@"
    ;;
  -* | sidecar | healthcheck | import | config | check | help) ;;
  *) if command -v -- "$1" >/dev/null; then exec "$@"; fi ;;
esac
exec node /app/src/transit-relay.ts "$@"
