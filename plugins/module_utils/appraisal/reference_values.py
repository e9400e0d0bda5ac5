# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reference values: which launch measurements are ours, and how far each of them vouches. See docs/policy-reference.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.appraisal import schema
from ansible_collections.attested.ai.plugins.module_utils.appraisal.policy import STAGES
from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, PolicyError

SCHEMA = "attested.ai/reference-values/1"
DOCUMENT = "reference values"
TEES = ("sev-snp",)
_KEYS = ("tee", "measurement", "host_data", "covers", "image", "source", "not_after")


@dataclass(frozen=True)
class ReferenceValue:
    """One image: its measurement (hexadecimal), how far the measurement ``covers``, and the end of its validity."""

    tee: str
    measurement: str
    covers: str
    image: str
    source: str
    not_after: datetime
    host_data: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        result: Dict[str, Any] = {"tee": self.tee, "measurement": self.measurement}
        if self.host_data is not None:
            result["host_data"] = self.host_data
        result.update(covers=self.covers, image=self.image, source=self.source, not_after=schema.format_time(self.not_after))
        return result


@dataclass(frozen=True)
class ReferenceValues:
    """All reference values that one appraisal may use."""

    values: Tuple[ReferenceValue, ...] = ()

    def measured(self, tee: str, measurement: str) -> List[ReferenceValue]:
        """The values of this TEE with this measurement, the expired ones too."""
        return [value for value in self.values if value.tee == tee and value.measurement == measurement]

    def to_dict(self) -> Dict[str, Any]:
        return {"schema": SCHEMA, "values": [value.to_dict() for value in self.values]}


def load_reference_values(obj: Any, document: str = DOCUMENT) -> ReferenceValues:
    """Read reference values from parsed YAML or JSON. Raises PolicyError on anything that is not exactly of the schema."""
    top = schema.Section(obj, ("schema", "values"), document)
    if top.required("schema") != SCHEMA:
        raise top.refuse("schema", "%s is not %s" % (schema.show(top.raw("schema")), SCHEMA))
    top.required("values")
    return ReferenceValues(top.listed("values", (), _reader(document), keep_order=True))


def merge_reference_values(parts: Iterable[ReferenceValues]) -> ReferenceValues:
    """All values of several documents, each once."""
    return ReferenceValues(tuple(dict.fromkeys(value for part in parts for value in part.values)))


def _reader(document: str) -> Any:
    def read(value: Any, where: str) -> ReferenceValue:
        section = schema.Section(value, _KEYS, where)
        for key in ("tee", "covers"):
            section.required(key)
        try:
            not_after = schema.parse_time(section.required("not_after"), section.where("not_after"))
        except FormatError as error:
            raise PolicyError(error.what, where=error.where, fix=error.fix) from None
        return ReferenceValue(
            tee=section.choice("tee", "", TEES),
            measurement=schema.check_hex(48)(section.required("measurement"), section.where("measurement")),
            host_data=None if section.raw("host_data") is None else schema.check_hex(32)(section.raw("host_data"), section.where("host_data")),
            covers=section.choice("covers", "", STAGES),
            image=section.text("image"),
            source=section.text("source"),
            not_after=not_after,
        )

    return read
