#!/bin/sh
# A router behind turnout, for balancer.kind: exec. This one keeps the weights in a file that a router would read; put the calls of
# your router's own API in their place. `set` has to end with 0 only once the router was told, and `get` has to ask the router.
set -eu
weights="${ROUTER_WEIGHTS:-$(dirname "$0")/weights}"

case "$1" in
set)
    printf '%s %s\n' "$3" "$4" >"$weights.$2.new"
    mv "$weights.$2.new" "$weights.$2"
    ;;
get)
    if [ -e "$weights.$2" ]; then
        cat "$weights.$2"
    else
        echo 100 0
    fi
    ;;
*)
    echo "usage: $0 set SERVICE BLUE GREEN | get SERVICE" >&2
    exit 2
    ;;
esac
