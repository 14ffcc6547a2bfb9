#!/bin/sh
# Unpacks the source of the reference relay into a directory, for tests of its Munin plugins, which its package lacks.
#   test/munin/fetch-reference.sh DIR
# It comes from the Debian mirror that this host uses; apt checks signature and sum. The host's own sources stay as they are.
set -eu

mkdir -p "$1"
target=$(cd "$1" && pwd)
# The release whose package of it is not outdated.
suite=trixie

# The dollar is for apt.
# shellcheck disable=SC2016
mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1
}

uri=$(mirror)
if [ -z "$uri" ]; then
  apt-get -qq update
  uri=$(mirror)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
cat >"$work/debian.sources" <<END
Types: deb-src
URIs: $uri
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
# Apart from this host's own lists, and as the user who runs this: _apt may not write here.
options="-qq -o Dir::Etc::sourcelist=$work/debian.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/lists -o APT::Sandbox::User=root -o Acquire::Retries=3"
cd "$work"
# shellcheck disable=SC2086 # The options are words.
apt-get $options update
# The other parts of the package are Debian's.
# shellcheck disable=SC2086
apt-get $options source --download-only --tar-only magic-wormhole-transit-relay >/dev/null
tar -xzf ./*.orig.tar.gz --directory "$target" --strip-components=1
