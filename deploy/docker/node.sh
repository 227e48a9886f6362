#!/bin/sh
# One node of the compose cluster: becomes a node once, then runs. Its arguments say how it becomes one:
#   first                 create the cluster
#   join                  take this node's token from /tokens, waiting for it
#   invite NAME...        (not a node) make the tokens of the others, once
set -eu

config=/etc/dwd/dwd.toml
identity=/var/lib/dwd/identity/identity.json
tokens=/tokens

case "${1:?first, join or invite}" in
first)
  [ -e "$identity" ] || dwd init --config "$config" --operator-dir /operator
  ;;
join)
  if [ ! -e "$identity" ]; then
    waited=0
    until [ -s "$tokens/$DWD_NODE_NAME" ]; do
      [ "$waited" -lt 120 ] || { echo "no token for $DWD_NODE_NAME after $waited s" >&2; exit 1; }
      waited=$((waited + 1))
      sleep 1
    done
    dwd join --config "$config" - <"$tokens/$DWD_NODE_NAME"
    rm -f "$tokens/$DWD_NODE_NAME"
    : >"$tokens/$DWD_NODE_NAME.joined"
  fi
  ;;
invite)
  shift
  for name in "$@"; do
    [ ! -e "$tokens/$name.joined" ] || continue
    dwctl node join-token --context /operator/cluster.json >"$tokens/.$name.new"
    mv "$tokens/.$name.new" "$tokens/$name"
  done
  exit 0
  ;;
*)
  echo "first, join or invite" >&2
  exit 2
  ;;
esac

exec dwd run --config "$config"
