# One image for the relay and the sidecar:
#   docker run -p 4001:4001 -p 4002:4002 IMAGE                 the relay
#   docker run IMAGE sidecar                                   the sidecar
#   docker run IMAGE --help                                    the other commands
# Works with BuildKit and with the classic builder, with the same result.

# A build from a clone uses the current images of these tags, with current security updates. Published images
# are built from the digests in .github/workflows/release.yml, which deploy/image/pin-images.sh updates.
ARG NODE_IMAGE=node:24-trixie-slim
ARG DEBIAN_IMAGE=debian:trixie-slim

FROM $NODE_IMAGE AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package runs install scripts: binaries are part of the packages, and there is no compiler here. The base
# image contains Node, which is an optional dependency.
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
# Readable for every user, whatever the modes in the clone, and writable for none.
RUN install deploy/image/healthcheck.sh . \
  && install deploy/image/transit-relay.sh /usr/local/bin/transit-relay \
  && rm -r deploy package-lock.json && chown -R root:root . && chmod -R u=rwX,go=rX .

FROM $DEBIAN_IMAGE
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends tini \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/log/*.log /var/log/apt
# An empty volume gets this mode, so that a relay under any user id can write to it. The sticky bit keeps
# users from removing each other's files.
RUN groupadd --gid 1000 relay \
  && useradd --uid 1000 --gid relay --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin relay \
  && install --directory --mode=1777 --owner=relay --group=relay /data
COPY --from=build /usr/local/bin/node /usr/local/bin/transit-relay /usr/local/bin/
COPY --from=build /app /app
WORKDIR /app
# Fails the build if the base images lack a library or have an old Node.js.
RUN node --require ./src/process/require-node.cjs --eval "new (require('better-sqlite3'))(':memory:').close()"

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
# tini forwards signals and reaps orphans.
ENTRYPOINT ["tini", "--", "transit-relay"]
CMD ["serve"]
# The first check runs one interval after the start; two seconds make a relay healthy within three. Once it
# has been up for half a minute, there is a check every ten seconds. The timeout allows for busy processors.
HEALTHCHECK --interval=2s --timeout=20s --retries=3 --start-period=1m CMD ["./healthcheck.sh", "relay", "8"]

# The build fails if this is not the version in package.json.
ARG VERSION=1.0.0
RUN test "$VERSION" = "$(transit-relay --version)" || { echo "VERSION is $VERSION, and package.json has another one" >&2; exit 1; }
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="Magic-Wormhole Transit Relay" \
  org.opencontainers.image.description="Relays bytes between two Magic-Wormhole clients, over TCP and WebSocket" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION" \
  org.opencontainers.image.created="$CREATED" \
  org.opencontainers.image.source="$SOURCE"
