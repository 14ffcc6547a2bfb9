#!/bin/sh
# Unpacks the source of the reference relay into a directory, for tests of its Munin plugins. Its package lacks them.
#   test/system/munin/fetch-reference.sh DIR
# The source comes from the Debian mirror of this host; apt checks signature and checksum. The apt sources of the host do not change.
set -eu

mkdir -p "$1"
target=$(cd "$1" && pwd)
# The Debian release with a current package.
suite=trixie

# The dollar sign is for apt.
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
# Separate from the package lists of the host, and as the current user, because _apt cannot write here.
options="-qq -o Dir::Etc::sourcelist=$work/debian.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/lists -o APT::Sandbox::User=root -o Acquire::Retries=3"
cd "$work"
# shellcheck disable=SC2086 # The options are words.
apt-get $options update
# The other parts of the package are from Debian.
# shellcheck disable=SC2086
apt-get $options source --download-only --tar-only magic-wormhole-transit-relay >/dev/null
tar -xzf ./*.orig.tar.gz --directory "$target" --strip-components=1
