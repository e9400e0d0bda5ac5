#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The documentation site as static pages: build.sh DEST
# Needs what requirements/site.txt lists on PATH (tools/dev/make_venv.sh .venv-site requirements/site.txt), and the collection where ansible-doc finds it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
mkdir -p "$1"
destination=$(cd "$1" && pwd)
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cp "$here/conf.py" "$here/index.md" "$source/"
cp "$here"/../*.md "$source/"
[ ! -d "$here/../images" ] || cp -R "$here/../images" "$source/"
# Where a guide points outside of docs, the site points to the repository.
sed -i 's#](\.\./#](https://github.com/attested-ai/attested.ai/blob/main/#g' "$source"/*.md
mkdir "$source/plugins"
antsibull-docs collection --use-current --no-indexes --squash-hierarchy --dest-dir "$source/plugins" attested.ai
sphinx-build -q -W --keep-going -b html "$source" "$destination"
