# SPDX-License-Identifier: GPL-3.0-or-later
"""A record of a CPU with 8 GPUs and 4 switches, and one of evidence whose collateral had expired."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("tests/unit/nvidia", "tools/softtee"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / folder))

from nvidia_lab import AT, NvidiaLab  # noqa: E402
from softtee.snp_authority import SnpAuthority  # noqa: E402
from test_nvidia_composite import NONCE as SHOWN  # noqa: E402
from test_nvidia_composite import REFERENCES, WHOLE, Guest  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.appraisal.schema import format_time  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.formats.strict import encode_base64  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import load  # noqa: E402

from .dossier_lab import outcomes  # noqa: E402


def test_a_whole_system_of_devices_is_reproduced(lab):
    guest = Guest(NvidiaLab(), SnpAuthority.create(None, products=("genoa",), rsa_bits=2048))
    gpus, switches = guest.lab.system(nonce=guest.device_nonce)
    document = guest.document(guest.items([*gpus, *switches]))
    rims = [*guest.lab.gpu_rims(), *guest.lab.gpu_rims("GB100"), guest.lab.switch_rim()]
    for number, rim in enumerate(rims):
        (lab.folder / f"{number}.xml").write_bytes(rim)
    policy = {"schema": "attested.ai/policy/1", "id": "system", "allow_nonvendor_roots": True, "roots": [guest.authority.ark_pem("genoa"), *guest.lab.pem],
              "require": WHOLE, "nvidia": {"revocation": "not_required"}}  # fmt: skip
    added = lab.run(operation="add", **{
        **lab.common(format_time(AT)), "policy": policy, "reference_values": REFERENCES.to_dict(), "evidence": document.to_dict(),
        "nonce": encode_base64(SHOWN), "collateral": [f"{number}.xml" for number in range(len(rims))],
    })  # fmt: skip
    assert added["accepted"] and len(added["result"]["submods"]) == 13
    assert lab.verify()["entries"][0]["intact"]
    lab.run(operation="export", public_key="dossier/dossier.pub.jwk", dest="out")
    # Other devices' manifests stay out, and what is handed over reads as what it was.
    found = load([str(path) for path in sorted((lab.folder / "out").glob("records/*/collateral/*"))])
    assert len(found.rims) == 3 < len(rims) and set(found.rims) < set(rims)


def test_evidence_whose_collateral_had_expired_has_no_ear(lab):
    added = lab.add(at="2029-06-01T00:00:00Z")
    assert added["failed"] and not added["accepted"] and "collateral-expired" in added["msg"]
    entry = lab.verify(at="2029-06-02T00:00:00Z")["entries"][0]
    assert entry["intact"] and (outcomes(entry)["ear"], outcomes(entry)["reproduced"]) == ("not_checked", "pass")
