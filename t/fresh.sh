#!/bin/sh
# The newcomer's path, proved: an empty Debian 12 with git and make only, a
# clone, "make run" until it answers, "make test".  As root; the new root is
# left in build/fresh for a look, and reused unless it is removed.
#
# The mirror, the proxies and the certificates are this machine's own.

set -eu
cd "$(dirname "$0")/.."

root=${FRESH:-$PWD/build/fresh}
tree=/srv/databridge

if [ "$(id -u)" != 0 ]; then
    echo "databridge: make fresh needs root" >&2
    exit 1
fi

if [ "${1:-}" = inside ]; then
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmp "$root/tmp"
    exec chroot "$root" sh "$tree/t/fresh-inside.sh"
fi

sources() {
    apt-get indextargets --format "$1" 'Created-By: Packages' \
        'Origin: Debian' | sort -u
}

if [ ! -f "$root/.complete" ]; then
    mirror=$(sources '$(CODENAME) $(REPO_URI)' \
             | sed -n 's/^bookworm //p' | head -n 1)

    rm -rf "$root"
    debootstrap --variant=minbase --include=git,make,ca-certificates \
        bookworm "$root" "$mirror"

    sources 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        >"$root/etc/apt/sources.list"
    apt-config dump Acquire::http Acquire::https \
        >"$root/etc/apt/apt.conf.d/99host"

    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
        [ ! -f "$file" ] || cp -L "$file" "$root$file"
    done

    certificates=/usr/local/share/ca-certificates
    cp -RL "$certificates/." "$root$certificates/"
    chroot "$root" update-ca-certificates >/dev/null

    touch "$root/.complete"
fi

rm -rf "$root$tree"
git clone --quiet --no-hardlinks . "$root$tree"

exec unshare --mount --pid --fork --kill-child sh t/fresh.sh inside
