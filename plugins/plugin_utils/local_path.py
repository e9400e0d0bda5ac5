# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Paths on the controller that a task names, and what lies there."""

from __future__ import annotations

import os
import re
import typing as t

from ansible.errors import AnsibleError
from ansible.parsing.vault import is_encrypted
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError

_PLAYS_OF_A_COLLECTION = re.compile(r"/ansible_collections/[^/]+/[^/]+/playbooks(/|\Z)")


def base_of(basedir: str) -> str:
    """Where relative paths begin: at the playbook, so that from another working directory it is not another ledger.

    A playbook that was started by the name of its collection lies where nobody keeps files: then it is the folder where it was started.
    """
    return os.getcwd() if _PLAYS_OF_A_COLLECTION.search(basedir) else basedir


def absolute(basedir: str, path: str) -> str:
    """``path`` of a playbook in ``basedir``."""
    return os.path.realpath(os.path.join(base_of(basedir), os.path.expanduser(path)))


def local_path(action: t.Any, path: str) -> str:
    """A path that a task reads or writes, absolute."""
    return absolute(action._loader.get_basedir(), path)


def content(path: str) -> bytes | None:
    """All of a file, None if there is none. Raises OSError."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def find(action: t.Any, path: str) -> str:
    """A file or folder that is read, searched for as Ansible does: the role's and the playbook's C(files), then the base. Of a playbook that was started by its
    name, first in the folder where it was started: the collection's own files lie beside it. Raises AnsibleError."""
    own = local_path(action, path)
    basedir = action._loader.get_basedir()
    found: str = own if base_of(basedir) != basedir and os.path.exists(own) else action._find_needle("files", path)
    return found


def _is_vaulted(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return is_encrypted(stream.read(len(b"$ANSIBLE_VAULT")))
    except OSError:
        # Whoever reads it will say why it cannot.
        return False


def find_file(action: t.Any, path: str, vaulted: bool = True) -> str:
    """The same, decrypted if it is vaulted, or without ``vaulted`` refused: for what is copied to where it lies in the clear. Raises FormatError."""
    try:
        found = find(action, path)
        # A collateral store is a directory; only files can be vaulted.
        if os.path.isdir(found):
            return found
        if not vaulted and _is_vaulted(found):
            raise FormatError("it is vaulted, and would be written down in the clear", where=path, fix="Leave it out, or name a file without secrets")
        decrypted: str = action._loader.get_real_file(found)
        return decrypted
    except AnsibleError as error:
        raise FormatError("it cannot be read: %s" % " ".join(str(error).split())[:200], where=path) from None
