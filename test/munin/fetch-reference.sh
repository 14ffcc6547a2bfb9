#!/bin/sh
# Unpacks the source of the reference relay into a directory, for tests of its Munin plugins, which its package lacks.
#   test/munin/fetch-reference.sh DIR
# Debian's newest stable has it; apt checks signature and sum. The host's own sources stay as they are.
set -eu

target=$1
mkdir -p "$target"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial"
# apt as an unprivileged user could not write here.
chmod 755 "$work"
cat >"$work/debian.sources" <<END
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
options="-qq -o Dir::Etc::sourcelist=$work/debian.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$work/lists -o APT::Sandbox::User=root"
cd "$work"
# shellcheck disable=SC2086 # The options are words.
apt-get $options update
# shellcheck disable=SC2086
apt-get $options source --download-only --tar-only magic-wormhole-transit-relay >/dev/null
tar -xzf ./*.orig.tar.gz --directory "$target" --strip-components=1
