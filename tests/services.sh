#!/bin/sh
# `make test` drives real servers and a real browser that PyPI has none of: what is missing is
# installed by apt when root, else said with the command that does it.
set -eu
missing=''
need() { # PACKAGE, then the program's name or places where it may lie
    package=$1
    shift
    for place in "$@"; do
        if command -v "$place" >/dev/null 2>&1; then return; fi
    done
    missing="$missing $package"
}
need redis-server redis-server
need postgresql /usr/lib/postgresql/*/bin/postgres
need chromium chromium chromium-browser google-chrome
need neovim nvim
need nginx-light nginx
need docker-compose docker-compose
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need$missing: run 'sudo $install', or your system's way to install them" >&2
    exit 1
fi
echo "installing$missing, which the tests drive"
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # the packages' own services stay off
apt-get update -qq
$install -qq >/dev/null
