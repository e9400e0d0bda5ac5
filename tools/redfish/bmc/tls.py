# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's certificate: it signs itself, as those that they come with."""

from __future__ import annotations

import datetime
import ssl


def make_identity(host: str) -> tuple[ssl.SSLContext, bytes]:
    """A context ready to serve ``host`` (an address) and localhost, and the certificate in PEM form for clients that shall accept it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from loopback import tls

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = tls.named("management controller under test")
    builder = tls.certificate(key, subject, now - datetime.timedelta(minutes=5), now + datetime.timedelta(days=1))
    builder = builder.add_extension(tls.alternatives(host, "localhost"), critical=False)
    return tls.serving(key, builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True), key)
