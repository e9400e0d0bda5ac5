#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# ansible-test sanity on every Python that is here, without containers. Usage: sanity.sh TREE [ansible-test options]
# TREE is the copy that tree.py makes. ansible-test wants get-pip from a host of its own, which is not always reachable; a stand-in in its
# cache installs the very same pip from PyPI. A home folder of its own keeps that out of the user's.
set -eu
tree=$1
shift
cache=$(cd "$tree/../../../.." && pwd -P)
repo=$(cd "$(dirname "$0")/../.." && pwd -P)

HOME=$cache/sanity-home
export HOME
standin=$HOME/.ansible/test/cache
mkdir -p "$standin"
for version in 24.2 25.2; do
  script=$standin/get_pip_$(echo "$version" | tr . _).py
  if [ ! -f "$script" ]; then
    python -m pip download --quiet --disable-pip-version-check --no-deps "pip==$version" --dest "$standin" </dev/null
    cp "$repo/tools/dev/get_pip_standin.py" "$script"
  fi
done

# Interpreters of pyenv by their own folders: its launchers fail for versions that are not selected, and ansible-test takes them at their word.
path=$(echo "$PATH" | tr : '\n' | grep -v '/\.pyenv/shims$' | paste -sd : -)
for bin in "$PYENV_ROOT"/versions/3.*/bin; do
  if [ -d "$bin" ]; then path=$bin:$path; fi
done
PATH=$VIRTUAL_ENV/bin:$path
export PATH

if [ "$(find "$tree/tests/sanity" -name 'ignore-*.txt' 2>/dev/null | wc -l)" -ne 0 ]; then
  echo "tests/sanity holds ignore files: a finding is mended, not ignored" >&2
  exit 1
fi
cd "$tree"
# Two of these may run at once, each from a virtual environment of its own.
log=$cache/sanity$(basename "$VIRTUAL_ENV").log
if ansible-test sanity --venv --color no "$@" >"$log" 2>&1; then
  grep '^WARNING: Skipping' "$log" || true
  echo "no finding in $(grep -c '^Running sanity test' "$log") tests, no ignore file"
else
  # The findings; the rest of the log is pip's talk.
  grep -aE '^(ERROR|FATAL|WARNING: Skipping|[a-z0-9-]+( --python [0-9.]+)?$)' "$log" || cat "$log"
  exit 1
fi
