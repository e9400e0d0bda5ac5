# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a PCCS with Intel's registration service by hand.

    PYTHONPATH=tools/softpccs python -m softpccs --ca /tmp/pccs-ca.pem --tokens tokens.txt [--port 8081] [--certificate wrong-name]
        [--fault 429:POST:platforms ...]

The first line of the tokens file is the user token, the second the administrator token. With --platform FOLDER a platform is made there, with
stand-ins for PCKIDRetrievalTool and Intel's agent, and with --qgs ADDRESS a QGS for it (a path, or vsock:4050).
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from pathlib import Path

from . import qgs
from .platform import Platform
from .server import Service
from .tls import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="softpccs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ca", type=Path, required=True, help="where the authority of its certificate is written")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", choices=KINDS, default="good")
    parser.add_argument("--mode", choices=("LAZY", "REQ", "OFFLINE"), default="LAZY")
    parser.add_argument("--refuses", default="", metavar="ERROR_CODE", help="such as PackageNotFound")
    parser.add_argument("--fault", action="append", default=[], metavar="ACTION[:METHOD[:PATH[:NTH[:TIMES[:VALUE]]]]]")
    parser.add_argument("--platform", type=Path)
    parser.add_argument("--qgs", default="")
    options = parser.parse_args()
    user, admin = (options.tokens.read_text(encoding="utf-8").splitlines() + ["", ""])[:2]
    service = Service(user, admin, options.certificate, options.port, options.mode, options.refuses)
    for text in options.fault:
        service.faults.tell(text)
    # A shell lets its background jobs ignore Ctrl-C, and that is inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        stack.enter_context(service.running())
        options.ca.write_bytes(service.authority)
        if options.platform:
            platform = Platform(options.platform) if options.platform.exists() else Platform.make(options.platform)
            if options.qgs:
                stack.enter_context(qgs.running(platform, options.qgs))
        print(f"{service.url} is a PCCS ({service.mode}) and Intel's registration service", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"{len(service.requests)} requests, {len(service.platforms)} platforms, {len(service.manifests)} manifests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
