# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The program on the guest: ``front CONFIG`` answers clients, ``hold ORDER`` is one instance of a model server, ``onnx`` serves a model by ONNX Runtime."""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver import front, holder, notify, onnx_server


def main(argv: Optional[Sequence[str]] = None) -> int:
    """What it cannot do it says in one line, to the journal and to systemd."""
    parser = argparse.ArgumentParser(prog="model-server", description="Serves an attested model.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("front", "configuration"), ("hold", "order")):
        commands.add_parser(name).add_argument("path", help="file with the %s" % what)
    onnx = commands.add_parser("onnx")
    onnx.add_argument("--model", required=True, help="folder or file with one ONNX model")
    onnx.add_argument("--name", required=True, help="name of the model for clients")
    onnx.add_argument("--port", type=int, required=True, help="port on the loopback")
    onnx.add_argument("--threads", type=int, default=0, help="threads for one request; 0 takes one for each core")
    options = parser.parse_args(argv)
    try:
        if options.command == "onnx":
            return onnx_server.run(options.model, options.name, options.port, options.threads)
        return {"front": front.run, "hold": holder.run}[options.command](options.path)
    except AttestedError as error:
        notify.tell("STATUS=%s" % error)
        sys.stderr.write("attested-ai: %s\n" % error)
        return 1
