# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one controller by hand.

    PYTHONPATH=tools/redfish python -m bmc dell-tdx --ca /tmp/bmc.pem --password-file bmc.password [--fault drop-after:POST:Reset:2 ...]

It prints its address, and at the end (Ctrl-C) how often the machine was reset. Its certificate is made at start.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from .models import MODELS
from .server import Service


def main() -> int:
    parser = argparse.ArgumentParser(prog="bmc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ca", type=Path, required=True, help="where its certificate is written, for ca_path")
    parser.add_argument("--password-file", type=Path, required=True, help="the first line is the password of the user admin")
    parser.add_argument("--boot-looks", type=int, default=3, help="how often the system must be looked at before a boot is over")
    parser.add_argument("--no-sessions", action="store_true")
    parser.add_argument("--fault", action="append", default=[], metavar="ACTION[:METHOD[:PATH[:NTH[:TIMES[:VALUE]]]]]")
    options = parser.parse_args()
    password = options.password_file.read_text(encoding="utf-8").splitlines()[0]
    service = Service(options.model, password=password, port=options.port, boot_looks=options.boot_looks, sessions=not options.no_sessions)
    for text in options.fault:
        service.faults.tell(text)
    # A shell lets its background jobs ignore Ctrl-C, and that is inherited.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with service.running():
        options.ca.write_bytes(service.certificate)
        print(f"{service.address} is a {options.model} with the user {service.username}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"{service.machine.resets} resets, {len(service.requests)} requests, {len(service.sessions)} sessions left open")
    return 0


if __name__ == "__main__":
    sys.exit(main())
