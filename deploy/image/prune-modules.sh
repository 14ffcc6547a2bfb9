#!/bin/sh
# Leaves of the production dependencies what runs: prune-modules.sh node_modules
#
# Licences stay, since those who pass the image on have to pass them on too, and each package.json stays,
# which is where scanners find what is in an image.
set -eu
cd "$1"
arch=$(node --print process.arch)

# Compiled for other machines, and the sources of what is compiled already. Where bufferutil has nothing for this
# machine, src/transport/unmask.ts does its work.
find better-sqlite3/prebuilds -type f ! -name "linux-$arch.node" -delete
find bufferutil/prebuilds -mindepth 1 -maxdepth 1 ! -name "linux-$arch" -exec rm -r {} +
rm -r better-sqlite3/deps better-sqlite3/src bufferutil/src node-addon-api
find . -name binding.gyp -delete

# A browser asks for these two, and nothing in Node for the others.
find uplot/dist -type f ! -name uPlot.esm.js ! -name uPlot.min.css -delete

# Every file of it is there twice; prom-client requires the CommonJS one.
find @opentelemetry/api -name '*.mjs' -delete

# What is for those who work on a package. Such names count in a package's root alone: deeper down they may be a
# part of the program.
find . \( -name test -o -name 'test-*' -o -name tests -o -name __tests__ -o -name fixtures -o -name 'bench*' \
  -o -name 'example*' -o -name docs -o -name scripts -o -name test.js -o -name tests.js \) -prune |
  while read -r path; do
    if [ -f "$(dirname "$path")/package.json" ]; then rm -r "$path"; fi
  done
find . -mindepth 1 -name '.*' -prune -exec rm -r {} +
find . -type f \( -name 'eslint.config.*' -o -name 'tsconfig*.json' \) -delete
find . -type f \( -iname '*.md' -o -iname '*.markdown' \) ! -iname 'licen[cs]e*' -delete
# Node strips no types inside node_modules, so that a .ts file there can't run.
find . -type f \( -name '*.ts' -o -name '*.mts' -o -name '*.cts' -o -name '*.map' -o -name '*.tsbuildinfo' \) -delete
find . -type d -empty -delete
