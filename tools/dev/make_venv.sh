#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Make a virtual environment from a pinned list, unless it is there already. Usage: make_venv.sh DIRECTORY LIST [MAJOR.MINOR]
# A stamp with the digest of list and interpreter says that a run has finished: whatever is older or was interrupted is made anew.
set -eu

venv=$1 list=$2
if ! python=$("$(dirname "$0")/find_python.sh" ${3:+"$3"}); then
  echo "No Python ${3:-from 3.11 to 3.13} with venv and ensurepip found. On Debian or Ubuntu: apt-get install python3-venv" >&2
  exit 1
fi
# Two runs at once would take it from under each other, and leave a stamp on the half of it.
if command -v flock >/dev/null; then
  mkdir -p .cache
  exec 9>".cache/$(basename "$venv").lock"
  flock 9
fi
stamp=$(cat "$list" "$0" | sha256sum | cut -c1-16)-$("$python" -c 'import sys; print(sys.executable, sys.version_info[:3])')
if [ -f "$venv/.complete" ] && [ "$(cat "$venv/.complete")" = "$stamp" ]; then
  exit 0
fi
echo "  $venv: $("$python" --version), $(grep -c '==' "$list") pinned packages from $list"
rm -rf "$venv"
"$python" -m venv "$venv"
# The list is complete and carries digests, so nothing is resolved and nothing unexpected is installed.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r "$list" </dev/null
echo "$stamp" >"$venv/.complete"
