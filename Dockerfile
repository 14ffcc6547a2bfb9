# One image for the relay and the sidecar:
#   docker run -p 4001:4001 -p 4002:4002 IMAGE                 the relay
#   docker run IMAGE node src/sidecar/main.ts                  the sidecar
# Nothing here is known to BuildKit alone: the classic builder makes the same of it.

# A build from a clone uses what these tags are now, and so has the security updates of the day. Published images are built from
# the digests in .github/workflows/release.yml, which deploy/image/pin-images.sh updates.
ARG NODE_IMAGE=node:24-trixie-slim
ARG DEBIAN_IMAGE=debian:trixie-slim

FROM $NODE_IMAGE AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No script of a package runs: binaries come with the packages, and there is no compiler here to make others. The base image
# brings Node, which is an optional dependency.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund --cache=/tmp/npm && rm -r /tmp/npm
COPY deploy/image ./deploy/image
RUN deploy/image/prune-modules.sh node_modules
COPY LICENSE ./
COPY src ./src
ENV NODE_ENV=production NODE_COMPILE_CACHE=/app/.compile-cache
RUN install --directory --owner=1000 "$NODE_COMPILE_CACHE"
USER 1000:1000
RUN deploy/image/fill-compile-cache.sh
USER root
# Everybody may read everything, whatever the modes in the clone were, and nobody writes.
RUN install deploy/image/healthcheck.sh . && rm -r deploy package-lock.json && chown -R root:root . && chmod -R u=rwX,go=rX .

FROM $DEBIAN_IMAGE
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
# An empty volume takes its mode from here, so that a relay under any user id may write into it; the sticky bit keeps
# users from removing each other's files.
RUN groupadd --gid 1000 relay \
  && useradd --uid 1000 --gid relay --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin relay \
  && install --directory --mode=1777 --owner=relay --group=relay /data
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app /app
WORKDIR /app
# A library that the base image lacks is missed here, and not by the first user.
RUN node --eval "new (require('better-sqlite3'))(':memory:').close()"

ENV NODE_ENV=production \
  NODE_COMPILE_CACHE=/app/.compile-cache \
  RELAY_LISTEN=tcp:4001 \
  RELAY_WEBSOCKET_LISTEN=tcp:4002 \
  RELAY_STATUS_LISTEN=tcp:4003 \
  RELAY_USAGE_DB=/data/usage.sqlite \
  SIDECAR_USAGE_DB=/data/usage.sqlite \
  SIDECAR_SNAPSHOT_DIR=/data/snapshots
USER 1000:1000
VOLUME /data
EXPOSE 4001 4002
# tini passes signals on and reaps what nobody waits for.
ENTRYPOINT ["tini", "--"]
# V8 takes half of the container's memory as the limit of its heap, but never less than 256 MiB by itself. This is half in
# small containers too. It is no NODE_OPTIONS: there it would override the limit that the sidecar gives to its job processes.
CMD ["node", "--max-old-space-size-percentage=50", "src/main.ts"]
# The first check comes one interval after the start: two seconds make a relay healthy within three. Once it has been up for
# half a minute, there is a check every ten seconds. Relays whose processors are taken get time to answer.
HEALTHCHECK --interval=2s --timeout=20s --retries=3 --start-period=1m CMD ["./healthcheck.sh", "relay", "8"]

ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="Magic-Wormhole Transit Relay" \
  org.opencontainers.image.description="Passes the bytes of two Magic-Wormhole clients from one to the other, over TCP and WebSocket" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION" \
  org.opencontainers.image.created="$CREATED" \
  org.opencontainers.image.source="$SOURCE"
