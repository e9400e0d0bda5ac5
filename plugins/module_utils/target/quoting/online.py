# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the doctor talks to services, when it is told to: one try, a short time, and an answer or the reason why there is none."""

from __future__ import annotations

import errno
import ssl
from typing import Union

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import ABSENT, DENIED, ERROR, Answer, Unreadable
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import qgs_client
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.https import make_opener
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.services import Request

BODY_KEPT = 64 << 10
TIMEOUT = 10.0
_NO_VSOCK = (errno.EAFNOSUPPORT, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ETIMEDOUT)


def exchange(address: str, data: bytes) -> Union[bytes, Unreadable]:
    try:
        return qgs_client.exchange(address, data, TIMEOUT)
    except OSError as error:
        if address.startswith("vsock:") and error.errno in _NO_VSOCK:
            return Unreadable(ABSENT, "this machine cannot reach itself by vsock: the kernel module vsock_loopback is not loaded")
        kind = DENIED if error.errno in (errno.EACCES, errno.EPERM) else ERROR
        return Unreadable(kind, "%s does not answer (%s)" % (address, error.strerror or error))
    except AttestedError as error:
        return Unreadable(ERROR, error.what)


def https(url: str, verify: bool = True) -> Union[Answer, Unreadable]:
    try:
        answer = make_opener(verify=verify, timeout=TIMEOUT)(Request("GET", url))
        return Answer(answer.status, answer.body[:BODY_KEPT])
    except ssl.SSLCertVerificationError as error:
        return Unreadable(DENIED, "its certificate is not accepted: %s" % error.verify_message)
    except OSError as error:
        return Unreadable(ERROR, "there is no answer (%s)" % (error.strerror or error))
    except AttestedError as error:
        return Unreadable(ERROR, error.what)
