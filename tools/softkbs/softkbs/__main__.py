# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one by hand, on loopback, with an admin key of its own.

    PYTHONPATH=tools/softkbs:.cache/collections python -m softkbs --admin-public-key admin.pub.pem --issuer ops --audience KBS

It prints its address and ends with Ctrl-C. Whatever it is given is in its memory, readable for everybody who can read that: nothing is protected.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .server import Server
from .service import Admin, Kbs


def main() -> int:
    parser = argparse.ArgumentParser(prog="softkbs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--admin-public-key", type=Path, required=True)
    parser.add_argument("--issuer")
    parser.add_argument("--audience")
    parser.add_argument("--certificate", type=Path, help="PEM, with --private-key; HTTP without")
    parser.add_argument("--private-key", type=Path)
    options = parser.parse_args()
    kbs = Kbs(Admin(key=load_pem_public_key(options.admin_public_key.read_bytes()), issuer=options.issuer, audience=options.audience))
    server = Server(kbs, (options.certificate, options.private_key) if options.certificate else None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with server.running():
        print(server.url, flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main())
