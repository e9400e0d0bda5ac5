# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The init-data of a pod: whether it closes the guest, belongs to these images, and what a KBS has to pin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import agent_policy, initdata
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import Platform
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec

# All annotations of an object together; the rest is left for others.
ANNOTATION_MAX = (256 << 10) - 8192
_IMAGE_URIS = ("image_security_policy_uri", "authenticated_registry_credentials_uri", "registry_configuration_uri", "sigstore_config_uri")


@dataclass(frozen=True)
class Channel:
    """``document`` is measured. ``resources`` are those of the KBS that it names, ``policy`` the agent's."""

    document: initdata.InitData
    policy: str
    resources: Tuple[str, ...]


def read(spec: PodSpec, platform: Platform, images: Tuple[str, ...], draft: bool, found: Findings) -> Optional[Channel]:
    """What was given, or None. Refuses what leaves the guest open."""
    given = spec.initdata.get("toml") if isinstance(spec.initdata, Mapping) else spec.initdata
    if given is None or given == "":
        _none(spec, draft, found)
        return None
    if not isinstance(given, str):
        found.refuse("init-data-form", "initdata is neither the text of a document nor what the filter attested.ai.initdata returned", "Give one of these")
        return None
    try:
        document = initdata.accept(given)
        data: Dict[str, str] = _toml(document.toml)["data"]
        policy = data.get("policy.rego", "")
        if policy:
            agent_policy.closed(policy, spec.agent_policy_allow)
    except (AttestedError, KeyError) as error:
        found.refuse(getattr(error, "code", "init-data-form"), str(error), "Make it anew with attested.ai.initdata and attested.ai.kata_agent_policy")
        return None
    if not policy:
        found.refuse("no-agent-policy", "the init-data has no policy.rego, so that the host may run commands in the guest and start other containers in it",
                     "Make one with genpolicy from the draft (state draft), and add it")  # fmt: skip
    else:
        _images(policy, images, "CreateContainerRequest" in spec.agent_policy_allow, draft, found)
        for name in agent_policy.look(policy).open:
            found.note("The agent's policy leaves %s open, as was said: %s" % (name, agent_policy.OPENS[name]))
    resources = _addresses(spec, platform, data, found)
    if len(document.annotation) > ANNOTATION_MAX:
        found.refuse("init-data-size", "its annotation is %d bytes long, and Kubernetes takes %d" % (len(document.annotation), ANNOTATION_MAX),
                     "Make the policy smaller: fewer containers, or rules that it does not need")  # fmt: skip
    return Channel(document, policy, resources)


def _none(spec: PodSpec, draft: bool, found: Findings) -> None:
    if draft:
        found.note("This is a draft for genpolicy: it has no init-data yet, and is not to be run")
    elif spec.protected:
        found.refuse(
            "no-init-data", "there is no init-data: nothing tells the guest which KBS to trust, and the host may run commands in it",
            "Write a draft (state draft), make a policy from it with genpolicy 4.1 or later, and give initdata: see docs/inference-pods.md",
            "advisory GHSA-fmg6-v47x-52wr for the version",
        )  # fmt: skip


def _images(policy: str, images: Tuple[str, ...], any_container: bool, draft: bool, found: Findings) -> None:
    """A policy that was made from another pod keeps this one from starting, or lets another one start."""
    known = agent_policy.look(policy)
    missing = [image for image in images if image not in known.images]
    if known.containers is None and not any_container:
        found.refuse("agent-policy-unknown", "the agent's policy lists no containers, so that nothing says which ones it lets in",
                     "Make it with genpolicy from the draft; if you wrote it and know, name CreateContainerRequest in agent_policy_allow")  # fmt: skip
    elif known.containers is None:
        found.note("The agent's policy lists no containers: whether it lets in just these ones is not checked, as was said")
    elif missing and not draft:
        found.refuse("agent-policy-other", "the agent's policy does not know the image %s: it was made from another pod" % missing[0],
                     "Make it anew from the draft of this one")  # fmt: skip


def _addresses(spec: PodSpec, platform: Platform, data: Mapping[str, str], found: Findings) -> Tuple[str, ...]:
    if not platform.guest_components:
        return ()
    resources: List[str] = []
    for name, path in (("aa.toml", ("token_configs", "kbs")), ("cdh.toml", ("kbc",))):
        section: Any = _toml(data[name]) if name in data else {}
        for part in path:
            section = section.get(part, {}) if isinstance(section, dict) else {}
        url = section.get("url", "") if isinstance(section, dict) else ""
        if not isinstance(url, str) or not url:
            found.refuse("no-kbs", "%s of the init-data names no KBS, so that the host chooses who answers" % name,
                         "Make both sections with the filter attested.ai.initdata_kbs")  # fmt: skip
        elif not url.startswith("https://") and not spec.allow_http_kbs:
            found.refuse("kbs-http", "%s of the init-data goes to the KBS without TLS, so that the host answers in its place" % name,
                         "Use https with the certificate, or set allow_http_kbs for a trial")  # fmt: skip
    hub: Any = _toml(data["cdh.toml"]) if "cdh.toml" in data else {}
    if hub.get("skip_sealed_secret_verification"):
        found.refuse("sealed-unverified", "cdh.toml sets skip_sealed_secret_verification, so that the host may put other sealed secrets in the place of yours",
                     "Take it out")  # fmt: skip
    image = hub.get("image", {})
    image = image if isinstance(image, dict) else {}
    for name in _IMAGE_URIS:
        value = image.get(name)
        if isinstance(value, str) and value.startswith("kbs:///"):
            resources.append(value[len("kbs:///"):])
    if "image_security_policy_uri" not in image and "image_security_policy" not in image:
        found.note("The init-data names no policy for images (image_security_policy_uri): the guest runs any image that the agent's policy lets in,"
                   " signed or not")  # fmt: skip
    return tuple(resources)


def _toml(text: str) -> Dict[str, Any]:
    # Was read before, by initdata.accept. The controller has Python 3.11 and more.
    import tomllib

    return tomllib.loads(text)
