#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# podman with a store and a mount namespace of its own, so that the machine's settings and containers stay apart.
# Usage: podman.sh CACHE RUN ARGUMENTS OF PODMAN
# With hierarchies of both cgroup versions crun gives up: in the namespace there is only the second. All calls share it: podman counts on the mounts
# that an earlier one left.
set -eu
cache=$1 run=$2
shift 2
export CONTAINERS_CONF="$cache/containers.conf" CONTAINERS_STORAGE_CONF="$cache/storage.conf"
if ! [ -e "$run/namespace" ]; then
  # A namespace can only be kept on a mount that is not shared.
  mount --bind "$run" "$run"
  mount --make-private "$run"
  touch "$run/namespace"
  unshare --mount="$run/namespace" --propagation private mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec nsenter --mount="$run/namespace" podman "$@"
