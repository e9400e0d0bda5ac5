# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets of a pod: which there are, what they say, and what looks like one in a place where the host reads it."""

from __future__ import annotations

import re
from typing import Any, Mapping, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.failure import PodError
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.parts import Secret
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec
from ansible_collections.attested.ai.plugins.module_utils.kbs.sealed import PREFIX, check_kid, check_payload

# Where the server finds secrets and certificates that are files.
DIRECTORY = "/etc/attested/secrets"
PUBLIC = "/etc/attested/public"
TLS_KEY = "tls.key"
TLS_CERTIFICATE = "tls.crt"
_NAMES = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY|CREDENTIALS?)(_ID)?\Z", re.IGNORECASE)
# Keys in PEM, tokens of Hugging Face, OpenAI, NVIDIA, GitHub, AWS and Slack, and JWTs.
_VALUES = re.compile(
    r"PRIVATE KEY-----|\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bnvapi-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_|\bAKIA[A-Z0-9]{16}"
    r"|\bxox[abpr]-|\beyJ[A-Za-z0-9_-]{10,}\.eyJ|://[^/\s:@]+:[^/\s@]+@"
)
_OPTION = re.compile(r"--?[a-z-]*(api-key|token|password|secret)(=.*|\Z)")


def wanted(spec: PodSpec) -> Tuple[Secret, ...]:
    """The secrets that are asked for, with the key of TLS among them."""
    return spec.secrets + ((Secret(TLS_KEY, spec.tls.key, "", "", TLS_KEY),) if spec.tls else ())


def looks_secret(name: str, value: str) -> bool:
    """Whether a variable looks as if it held a secret in the clear."""
    return bool(value) and bool(_NAMES.search(name) or _VALUES.search(value))


def option_with_secret(words: Tuple[str, ...]) -> str:
    """The first word of a command that is a secret, or is followed by one."""
    for word in words:
        # What is named a file, or the name of a variable, is no secret.
        if _VALUES.search(word) or _OPTION.match(word):
            return word.split("=")[0][:40]
    return ""


def is_sealed(value: str) -> bool:
    return value.lstrip().startswith(PREFIX)


def read(text: str, where: str) -> Tuple[str, Mapping[str, Any]]:
    """(kid, payload) of a sealed secret; its signature is not looked at. Raises PodError."""
    try:
        head, body, tail = text[len(PREFIX):].split(".")
        if not text.startswith(PREFIX) or not head or head == "fakejwsheader":
            raise ValueError
        header = strict.loads(strict.decode_base64url(head, where, 2, 4096), where)
        payload = strict.loads(strict.decode_base64url(body, where, 2, 1 << 16), where)
        strict.decode_base64url(tail, where, 64, 64)
        check_payload(payload)
        return check_kid(header["kid"]), payload
    except (ValueError, KeyError, TypeError, AttestedError):
        # The text itself is not repeated: what stands in its place may be the secret.
        raise PodError("it is no signed sealed secret", where=where, fix="Make it with the filter attested.ai.sealed_secret", code="sealed-form") from None
