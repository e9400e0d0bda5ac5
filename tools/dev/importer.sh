#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# What Galaxy and Automation Hub say at import. Usage: importer.sh TREE WORK
set -eu
tree=$1 work=$2
rm -rf "$work"
mkdir -p "$work"
ansible-galaxy collection build "$tree" --output-path "$work" --force >/dev/null
cd "$work"
python -m galaxy_importer.main attested-ai-*.tar.gz >importer.log 2>&1 || { grep -v "Loading " importer.log; exit 1; }
# It exits 0 with warnings; ours has none.
if grep -E '(WARNING|ERROR)' importer.log; then
  exit 1
fi
tail -n 1 importer.log
