#!/bin/sh
# Reduces the production dependencies to what runs: prune-modules.sh node_modules
#
# Licences stay, because redistributors need them, and each package.json stays, because scanners read it.
set -eu
cd "$1"
arch=$(node --print process.arch)

# Binaries for other platforms, and sources of binaries. Without a binary of bufferutil for this platform,
# unmaskJs in src/transport/websocket-transport.ts is used.
find better-sqlite3/prebuilds -type f ! -name "linux-$arch.node" -delete
find bufferutil/prebuilds -mindepth 1 -maxdepth 1 ! -name "linux-$arch" -exec rm -r {} +
rm -r better-sqlite3/deps better-sqlite3/src bufferutil/src node-addon-api
find . -name binding.gyp -delete

# Browsers load these two files; Node loads none of the others.
find uplot/dist -type f ! -name uPlot.esm.js ! -name uPlot.min.css -delete

# acme-client requires the CommonJS builds of its dependencies for Node.
find axios/dist -type f ! -path '*/node/*' -delete
rm -r axios/lib node-forge/dist node-forge/flash tsyringe/dist/esm* reflect-metadata/ReflectLite.js reflect-metadata/ReflectNoConflict.js
rm @peculiar/x509/build/x509.js
find @peculiar asn1js pvtsutils pvutils \( -path '*/build/es2015/*' -o -path '*/build/esm/*' -o -name '*.es.js' \) -delete

# Every file exists twice; prom-client requires the CommonJS one.
find @opentelemetry/api -name '*.mjs' -delete

# Development files of packages. These names count only in the root of a package; deeper they may be part of
# the program.
find . \( -name test -o -name 'test-*' -o -name tests -o -name __tests__ -o -name fixtures -o -name 'bench*' \
  -o -name 'example*' -o -name docs -o -name scripts -o -name test.js -o -name tests.js \) -prune |
  while read -r path; do
    if [ -f "$(dirname "$path")/package.json" ]; then rm -r "$path"; fi
  done
find . -mindepth 1 -name '.*' -prune -exec rm -r {} +
find . -type f \( -name 'eslint.config.*' -o -name 'tsconfig*.json' \) -delete
find . -type f \( -iname '*.md' -o -iname '*.markdown' \) ! -iname 'licen[cs]e*' -delete
# Node strips no types inside node_modules, so a .ts file there cannot run.
find . -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' -o -name '*.tsbuildinfo' \) -delete
find . -type d -empty -delete
