# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of one guest on one host, put together for the role."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError
from ansible_collections.attested.ai.plugins.module_utils.measure import initdata
from ansible_collections.attested.ai.plugins.module_utils.vm import plan as core
from ansible_collections.attested.ai.plugins.module_utils.vm.libvirt_xml import domain_xml
from ansible_collections.attested.ai.plugins.module_utils.vm.qemu_argv import qemu_argv, unit_text
from ansible_collections.attested.ai.plugins.module_utils.vm.spec import VmSpec, parse_spec

# Kind of evidence and digest of the configuration field of each TEE: a digest that fills the field.
CONFIG = {"snp": ("sev-snp", "sha256"), "tdx": ("tdx", "sha384"), "cca": ("cca", "sha512")}


def vm_plan(
    description: t.Any, host: t.Any, driver: str = "libvirt", digests: t.Any = None, config: t.Any = None, init_data: str | None = None,
    debug_confirm: str = "", running: bool = False, runner: str = "root",
    coming: t.Any = None, init_data_algorithm: str = "",
) -> dict[str, t.Any]:  # fmt: skip
    """Raises FormatError for a description or a host that is none."""
    spec, expected = parse_spec(description), _digests(digests)
    missing = {"memory", "nodes", "hugepages", "features", "files", "devices", "vsock_cids", "listening"} - set(host if isinstance(host, dict) else {})
    if missing:
        raise FormatError("it lacks %s" % ", ".join(sorted(missing)), where="host", fix="Give what attested.ai.vm_host_info returned")
    document = init_data.encode() if init_data is not None else core.config_document(spec, expected, config or {})
    if init_data_algorithm and init_data is None:
        raise FormatError("it goes with init_data", where="init_data_algorithm", fix="Remove it, or give init_data")
    algorithm = init_data_algorithm or (CONFIG[spec.tee][1] if spec.protected else "")
    spec = dataclasses.replace(spec, config=_config(spec, document, algorithm))
    found = core.refusals(spec, host, core.Expectations(expected, debug_confirm == spec.name, bool(running), tuple(coming or ())))
    protection = core.PROTECTION[spec.tee]
    # The digest is of the definition without itself in it.
    digest = core.definition_digest(_text(spec, driver, {"protection": protection}, runner), expected)
    metadata = {"definition": digest, "protection": protection}
    return {
        "refusals": [refusal.to_dict() for refusal in found], "notes": list(core.notes(spec, host)), "protection": protection,
        "protected": spec.protected, "chain_end": core.chain_end(spec), "definition": _text(spec, driver, metadata, runner), "digest": digest,
        "config_document": document.decode(), "config_algorithm": algorithm if spec.protected else "", "config": spec.config, "uuid": spec.uuid,
    }  # fmt: skip


def _digests(given: t.Any) -> dict[str, str]:
    found = {str(path): str(digest) for path, digest in (given or {}).items()}
    for path, digest in found.items():
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise FormatError("%s is no SHA-256 digest in small letters" % ascii(digest)[:70], where="digests[%s]" % path)
    return found


def _config(spec: VmSpec, document: bytes, algorithm: str) -> str:
    if not spec.protected or spec.config:
        return spec.config
    return initdata.field_value(document, algorithm, CONFIG[spec.tee][0])[1]


def _text(spec: VmSpec, driver: str, metadata: dict[str, str], runner: str) -> str:
    if driver == "libvirt":
        return domain_xml(spec, metadata)
    if driver == "qemu":
        return unit_text(qemu_argv(spec), spec, metadata, runner)
    raise FormatError("%s is none of libvirt, qemu" % ascii(driver)[:40], where="driver")
