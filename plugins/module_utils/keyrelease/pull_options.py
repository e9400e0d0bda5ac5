# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options of the module guest_key_pull to what is to be done."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.kbs.own_evidence import OwnEvidence
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Server
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import jwk as keys
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.guest import Wish
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.pull import Order
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request

# How evidence is collected.
COLLECTION: Dict[str, Dict[str, Any]] = {
    "method": {"type": "str", "choices": ["auto", "configfs", "ioctl", "azure"], "default": "auto"},
    "tsm_path": {"type": "path", "default": "/sys/kernel/config/tsm/report"},
    "device": {"type": "path", "default": "/dev/sev-guest"},
    "tpm_device": {"type": "path", "default": "/dev/tpmrm0"},
    "privlevel": {"type": "int"},
    "gpus": {"type": "str", "choices": ["none", "auto", "required"], "default": "none"},
    "switches": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "nvml_library": {"type": "str", "default": "libnvidia-ml.so.1"},
    "nscq_library": {"type": "str", "default": "libnvidia-nscq.so.2"},
    "event_log": {"type": "str", "choices": ["none", "auto", "required"], "default": "auto"},
    "event_log_path": {"type": "path", "default": "/sys/firmware/acpi/tables/data/CCEL"},
}
# Where a key is. One for each owner where there are several.
BROKER: Dict[str, Dict[str, Any]] = {
    "url": {"type": "str", "required": True},
    "pins": {"type": "list", "elements": "str", "default": []},
    "ca": {"type": "str", "default": ""},
    "server_name": {"type": "str", "default": ""},
    "resource": {"type": "str", "required": True},
}
# What the doc fragment attested.ai.guest_pull describes.
GUEST_PULL: Dict[str, Dict[str, Any]] = {"timeout": {"type": "int", "default": 20}, "init_data": {"type": "path"}, **COLLECTION}
_INIT_DATA_MAX = 1 << 20


def prepared(options: Mapping[str, Any]) -> Tuple[Order, OwnEvidence]:
    """Raises AttestedError on options that cannot be used."""
    if not 1 <= options["timeout"] <= 600:
        raise KeyReleaseError("it is not between 1 and 600 seconds", where="timeout", code="kbs-options")
    if not 1 <= options["minimum_release"] < 2**53:
        raise KeyReleaseError("a whole number from 1 was expected", where="minimum_release", code="counter-value")
    server = Server(options["url"].rstrip("/"), options["ca"], options["server_name"], tuple(options["pins"]), float(options["timeout"]), options["allow_http"])
    signer = None if options["signer"] is None else keys.check_public_jwk(options["signer"], keys.SIGNATURE_CURVES, "signer")
    wish = Wish(options["session"], "present", options["directory"], options["lifetime"])
    # The nonce is put in by whoever asks.
    request = Request(nonce="", **{name: options[name] for name in COLLECTION})
    return Order(server, options["resource"], wish, options["minimum_release"], signer), OwnEvidence(request, _init_data(options["init_data"]))


def _init_data(path: Optional[str]) -> Optional[str]:
    if path is None:
        return None
    try:
        with open(path, "rb") as stream:
            data = stream.read(_INIT_DATA_MAX + 1)
        if len(data) > _INIT_DATA_MAX:
            raise KeyReleaseError("it is larger than %d bytes" % _INIT_DATA_MAX, where=path, code="init-data-form")
        return data.decode("utf-8")
    except OSError as error:
        raise KeyReleaseError("it cannot be read (%s)" % error.strerror, where=path, code="init-data-form") from None
    except UnicodeDecodeError:
        raise KeyReleaseError("it is no UTF-8 text", where=path, code="init-data-form") from None
