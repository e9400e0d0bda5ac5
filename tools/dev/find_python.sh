#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Print the newest Python that works here, or say what to install. Usage: find_python.sh [MAJOR.MINOR]
#
# A name on PATH proves nothing: version managers leave launchers behind for interpreters that they do not start, and Debian ships
# Python without ensurepip. So each candidate is run, and must be the version that its name says, with venv and ensurepip.
set -eu

works() {
  "$1" -I -c 'import ensurepip, sys, venv
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$2" >/dev/null 2>&1
}

for version in ${1:-3.13 3.12 3.11}; do
  # The shell's own search first, then every installation of pyenv: its launchers start the selected versions only.
  for candidate in "$(command -v "python$version" || true)" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && works "$candidate" "$version"; then
      # The one behind a virtual environment that happens to be active: a program cannot renew the environment that it runs in.
      "$candidate" -I -c 'import sys; print(sys._base_executable)'
      exit 0
    fi
  done
done
exit 1
