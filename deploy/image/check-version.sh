#!/bin/sh
# Checks that all places that name the version of a release agree with its tag:
#   deploy/image/check-version.sh TAG [IMAGE]
# TAG is like v1.2.3. With IMAGE, its label and the version that it prints are checked, too.
set -eu
cd "$(dirname "$0")/../.."
tag=$1
image=${2-}
wrong=0

# expect PLACE VERSION
expect() {
  if [ "v$2" = "$tag" ]; then return; fi
  echo "check-version.sh: the tag is $tag, but $1 has \"$2\"" >&2
  wrong=1
}

expect package.json "$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)"
# The lock file has it twice before the packages.
expect package-lock.json "$(sed -n '/"node_modules\//q; s/^ *"version": "\(.*\)",$/\1/p' package-lock.json | uniq)"
expect 'the newest section of CHANGELOG.md' "$(sed -n 's/^## \([0-9][^ ]*\).*$/\1/p' CHANGELOG.md | head -n 1)"
expect 'VERSION in the Dockerfile' "$(sed -n 's/^ARG VERSION=//p' Dockerfile)"
if [ -n "$image" ]; then
  # This pulls it.
  expect "--version of $image" "$(docker run --rm "$image" --version)"
  label=org.opencontainers.image.version
  expect "the label of $image" "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$image")"
fi
exit "$wrong"
