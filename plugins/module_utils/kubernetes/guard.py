# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guard: what a container runs first. It ends it where a secret is still sealed, and else becomes the server.

Up to Kata 4.1 a secret that cannot be opened is a warning in a log, and the server gets the text sealed.... in its place (src/agent/src/rpc.rs; kata
issue 13586).
The agent's policy pins the command, so the host cannot take the guard away.
"""

from __future__ import annotations

from typing import Sequence, Tuple

STATUS = 97
# No $( and no $$: the kubelet, on the host, would expand them. Only what every POSIX shell has built in.
_SCRIPT = """\
refuse() {
  echo "attested.ai: $1. Look at the KBS: does its policy release the secret and the key that it is signed with to this init-data?" >&2
  exit %(status)d
}
for name in %(names)s; do
  eval "value=\\${$name-}"
  case $value in
    sealed.*) refuse "the variable $name is still sealed" ;;
    '') refuse "the variable $name is empty" ;;
  esac
done
export -p | while IFS= read -r line; do
  case $line in
    *=sealed.*|*=\\'sealed.*|*=\\"sealed.*) exit 1 ;;
  esac
done || refuse 'a variable is still sealed'
for file in %(files)s; do
  [ -r "$file" ] || refuse "the file $file is not there"
  line=
  IFS= read -r line < "$file" || :
  case $line in
    sealed.*) refuse "the file $file is still sealed" ;;
    '') refuse "the file $file is empty" ;;
  esac
done
unset name value file line
exec "$@"
"""


def script(names: Sequence[str], files: Sequence[str]) -> str:
    """The text for sh -c. Names and paths have forms that need no quotes."""
    return _SCRIPT % {"status": STATUS, "names": " ".join(names), "files": " ".join(files)}


def guarded(command: Sequence[str], names: Sequence[str], files: Sequence[str]) -> Tuple[str, ...]:
    return ("/bin/sh", "-c", script(names, files), "attested-guard", *command)
