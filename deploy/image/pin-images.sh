#!/bin/sh
# Updates the digests of the images for releases and tests: deploy/image/pin-images.sh
#
# Every NAME:TAG@sha256:DIGEST in the files below gets the current digest of NAME:TAG. Needs docker with
# buildx and access to the registries. Review the difference, run the tests, commit.
set -eu
cd "$(dirname "$0")/../.."
files='.github/workflows/release.yml .github/workflows/tests.yml'

pinned=$(grep -Eoh '[a-z0-9./_-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}' $files | sort -u)
for image in $pinned; do
  tag=${image%@*}
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$tag")
  if ! printf '%s\n' "$digest" | grep -Eqx 'sha256:[0-9a-f]{64}'; then
    echo "pin-images.sh: the registry has no digest for $tag; it says: $digest" >&2
    exit 1
  fi
  if [ "$tag@$digest" = "$image" ]; then continue; fi
  sed -i "s|$image|$tag@$digest|g" $files
  echo "$tag: $digest"
done
