# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of key brokers share: a description, and the units that the role's templates make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from ansible_collections.attested.ai.plugins.module_utils.trustee import plan

REPO = Path(__file__).resolve().parents[3]
ROLE = REPO / "roles" / "trustee"
DIGEST = "0123456789abcdef" * 4
IMAGES = {name: f"ghcr.io/confidential-containers/staged-images/{name}@sha256:{DIGEST}" for name in ("kbs", "as", "rvps", "busybox")}
HELM = {
    "release": "trustee", "namespace": "coco-trustee", "keys_secret": "trustee-keys", "tls_secret": "trustee-tls",
    "claims": {"kbs": "trustee-kbs", "as": "trustee-as", "rvps": "trustee-rvps"}, "chart_version": "0.18.0", "user": 10001,
    "expose": "load_balancer",
}  # fmt: skip


def description(**changed: Any) -> dict[str, Any]:
    return {
        "way": "binaries", "layout": "builtin", "name": "trustee", "listen": ["0.0.0.0:8080"], "config_dir": "/etc/trustee", "data_dir": "/var/lib/trustee",
        "programs": {"kbs": "/usr/local/bin/kbs", "as": "/usr/local/bin/grpc-as", "rvps": "/usr/local/bin/rvps"}, "images": dict(IMAGES),
        "admin": {"issuer": "ops.example.org", "audience": "KBS", "acls": [{"role": "admin", "allowed_endpoints": "^/kbs/.+$"}]}, **changed,
    }  # fmt: skip


def units(folder: Path, **changed: Any) -> dict[str, Path]:
    """The units of a description, written into a folder as the role does."""
    given = description(**changed)
    made = plan.make(given)
    template = "container.j2" if given["way"] == "quadlet" else "service.j2"
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True, keep_trailing_newline=True)
    environment.filters["split"] = lambda text, mark: text.split(mark)
    given_to = {
        "trustee_user": "trustee", "trustee_config_dir": given["config_dir"], "trustee_data_dir": given["data_dir"], "trustee_listen": given["listen"],
        "ansible_facts": {"getent_passwd": {"trustee": ["x", "993", "992"]}},
    }  # fmt: skip
    found = {}
    for one in made["components"]:
        path = folder / f"{one['unit']}.{'container' if given['way'] == 'quadlet' else 'service'}"
        path.write_text(environment.get_template(template).render(item=one, **given_to))
        found[one["name"]] = path
    return found
