#!/bin/sh
# What t/fresh.sh runs in the new root.

set -eu
cd /srv/databridge

export PORT=18000
unset MAKEFLAGS MAKELEVEL BUILD PYTHON PYTHON_CONFIG NGINX NGINX_SRC

echo "== make run"
make run &
pid=$!
waited=0

until curl -fs "http://127.0.0.1:$PORT/articles" >/dev/null 2>&1; do
    sleep 1
    waited=$((waited + 1))

    if [ $waited -gt 3600 ] || ! kill -0 $pid 2>/dev/null; then
        echo "databridge: make run did not serve" >&2
        exit 1
    fi
done

echo "== it serves after $waited s"
curl -fs "http://127.0.0.1:$PORT/articles"
echo
kill -TERM $pid $(cat "/proc/$pid/task/$pid/children") 2>/dev/null || true
wait $pid || true

echo "== a second make deps and make do nothing"
[ -z "$(make deps)" ]
[ -z "$(make build)" ]

echo "== make test"
make test
