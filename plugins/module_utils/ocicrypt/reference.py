# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of images as skopeo writes them: docker://host/name:tag of a registry, oci:folder:tag of a layout on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Callable

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.packet import DIGEST
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# A host is told from the first part of a name by a dot, a port, or being localhost.
REPOSITORY = re.compile(r"(?P<host>%s)(?:/%s)+\Z" % (_HOST, _NAME))
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


@dataclass(frozen=True)
class Reference:
    """``place`` is host and name of a registry, or the folder of a layout; one of ``tag`` and ``digest``, or of a layout neither."""

    transport: str
    place: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.transport == "oci":
            return "oci:%s%s" % (self.place, ":" + self.tag if self.tag else "")
        return "docker://%s%s" % (self.place, "@" + self.digest if self.digest else ":" + self.tag)

    @property
    def local(self) -> bool:
        return self.transport == "oci"

    def at(self, digest: str) -> Reference:
        """The same place, and exactly this image."""
        return replace(self, tag="", digest=digest)


def parse(text: str, where: str, localize: Callable[[str], str], written: bool = False) -> Reference:
    """``localize`` makes a path of the task absolute. What is to be ``written`` needs a tag. Raises ImageError."""
    if text.startswith("oci:"):
        folder, _colon, tag = text[len("oci:"):].partition(":")
        found = Reference("oci", localize(folder) if folder else "", tag)
    elif text.startswith("docker://"):
        found = _registry(text, where)
    else:
        raise ImageError("%s is neither docker://HOST/NAME:TAG nor oci:FOLDER:TAG" % strict.quoted(text), where=where,
                         fix="Copy other kinds with skopeo copy SOURCE oci:FOLDER:TAG first", code="image-reference")  # fmt: skip
    if not found.place or ":" in found.place and found.local or (found.tag and not TAG.match(found.tag)):
        raise ImageError("%s names no image" % strict.quoted(text), where=where, code="image-reference")
    if "," in found.place:
        raise ImageError("%s has a comma, at which skopeo ends a name" % strict.quoted(text), where=where, code="image-reference")
    if written and (found.digest or not found.tag):
        raise ImageError("%s has no tag" % strict.quoted(text), where=where, fix="Name the tag that it shall have", code="image-reference")
    return found


def repository(text: str, where: str) -> str:
    """Host and name, both whole: short names mean different images on different machines."""
    match = REPOSITORY.match(text)
    if match is None or not ("." in match.group("host") or ":" in match.group("host") or match.group("host") == "localhost"):
        raise ImageError("%s is no HOST/NAME in whole" % strict.quoted(text), where=where, fix="Docker Hub's are docker.io/library/NAME",
                         code="image-reference")  # fmt: skip
    return text


def _registry(text: str, where: str) -> Reference:
    name = text[len("docker://"):]
    name, _at, digest = name.partition("@")
    head, slash, last = name.rpartition("/")
    last, _colon, tag = last.partition(":")
    if digest and (tag or not DIGEST.match(digest)):
        raise ImageError("%s has both a tag and a digest, or no sha256 digest" % strict.quoted(text), where=where, code="image-reference")
    return Reference("docker", repository(head + slash + last, where), "" if digest else tag or "latest", digest)
