#!/bin/sh
# Refuses, in one line that says what to do, what cannot work later on.
# usage: check.sh python|module

set -u

die() {
    echo "databridge: $*" >&2
    exit 1
}

check_python() {
    [ -x "$PYTHON" ] || die "$PYTHON is missing: run 'make deps'," \
        "or set PYTHON to a Python 3.11 or newer"

    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || die "$PYTHON is older than 3.11: set PYTHON to a newer one"

    [ -x "$BUILD/venv/bin/python" ] || return 0

    base='import sys; print(sys.base_prefix, sys.version.split()[0])'
    ours=$("$PYTHON" -c "$base")
    venv=$("$BUILD/venv/bin/python" -c "$base" 2>/dev/null)

    [ "$ours" = "$venv" ] || die "$BUILD/venv was made by another Python" \
        "(${venv:-it does not start}, PYTHON is $ours): run 'make" \
        "distclean', or set PYTHON"
}

check_module() {
    [ -x "$NGINX" ] || die "$NGINX is missing: run 'make deps'," \
        "or set NGINX"

    [ -f "$NGINX_SRC/conf_flags" ] || die "$NGINX_SRC is missing: run" \
        "'make deps' (package nginx-dev), or set NGINX_SRC"

    ours=$("$NGINX" -v 2>&1 | sed -n 's,^nginx version: nginx/\([^ ]*\).*,\1,p')
    tree=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' \
        "$NGINX_SRC/src/core/nginx.h")

    [ "$ours" = "$tree" ] || die "$NGINX is $ours but nginx-dev is $tree:" \
        "the module would be refused; install the same version of both"

    command -v gcc >/dev/null && command -v g++ >/dev/null \
        || die "gcc or g++ is missing: run 'make deps'"

    [ -x "$PYTHON_CONFIG" ] || die "$PYTHON_CONFIG is missing: run 'make" \
        "deps' (package python3.11-dev), or set PYTHON_CONFIG"

    libs=$("$PYTHON_CONFIG" --embed --libs 2>/dev/null) \
        || die "$PYTHON_CONFIG knows no --embed: its Python has no" \
               "libpython to embed; set PYTHON_CONFIG to another"

    want=$("$PYTHON" -c 'import sysconfig
print("-lpython" + sysconfig.get_config_var("LDVERSION"))')

    case " $libs " in
        *" $want "*) ;;
        *) die "$PYTHON_CONFIG embeds $libs but $PYTHON needs $want:" \
               "set PYTHON and PYTHON_CONFIG to the same Python" ;;
    esac
}

case $1 in
    python) check_python ;;
    module) check_python; check_module ;;
esac
