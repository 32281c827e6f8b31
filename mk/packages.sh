#!/bin/sh
# Installs those of the named Debian packages that are missing.

set -eu

missing=
for package in "$@"; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "databridge: install with your package manager:$missing" >&2
    exit 1
fi

if [ -n "${SUDO:-}" ] && ! command -v "$SUDO" >/dev/null; then
    echo "databridge: become root, or install sudo, to get:$missing" >&2
    exit 1
fi

echo "databridge: installing Debian packages:$missing"

export DEBIAN_FRONTEND=noninteractive
$SUDO apt-get update -qq </dev/null
$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends -o Dpkg::Use-Pty=0 $missing </dev/null >/dev/null
