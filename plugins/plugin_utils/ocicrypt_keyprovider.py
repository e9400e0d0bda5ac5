# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key provider as a program: skopeo, podman and whatever else uses ocicrypt start it for each layer.

    python3 .../attested/ai/plugins/plugin_utils/ocicrypt_keyprovider.py config > keyprovider.json
    export OCICRYPT_KEYPROVIDER_CONFIG=$PWD/keyprovider.json
    skopeo copy --encryption-key provider:attestation-agent:keypath=model.key::keyid=kbs:///default/key/model oci:plain:1 oci:encrypted:1

The key is read from a file of 32 bytes that only its owner may open, and goes nowhere else.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import typing as t


def configuration() -> dict[str, t.Any]:
    """What OCICRYPT_KEYPROVIDER_CONFIG shall name. Nothing beside this file is to be taken for a library."""
    alone = "-P" if sys.version_info >= (3, 11) else "-I"
    return {"key-providers": {"attestation-agent": {"cmd": {"path": sys.executable, "args": [alone, os.path.abspath(__file__)]}}}}


def main(arguments: t.Sequence[str]) -> int:
    folder = os.path.abspath(__file__)
    for _level in range(6):
        folder = os.path.dirname(folder)
    sys.path.append(folder)
    # Imported only now: as a program it is told nowhere where the collection lies.
    try:
        from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
        from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import read_secret
        from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.provider import REQUEST_MAX, answer
    except ImportError as error:
        print(f"the key provider does not find its collection ({error}): start it from where ansible-galaxy installed it", file=sys.stderr)
        return 1
    if list(arguments) == ["config"]:
        print(json.dumps(configuration(), indent=2))
        return 0
    if arguments:
        print("the key provider takes a request of ocicrypt on its standard input, or the word config", file=sys.stderr)
        return 2
    # A dump of this process would be the key on a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        reply = answer(sys.stdin.buffer.read(REQUEST_MAX + 1), lambda path: read_secret(path, "key"))
    except AttestedError as error:
        print(f"attested.ai key provider: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(reply)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
