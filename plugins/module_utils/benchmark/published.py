# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Published figures beside a measured ratio: within, more, or not to be compared, and then why."""

from __future__ import annotations

import functools
import json
import pkgutil
import typing as t

from ansible_collections.attested.ai.plugins.module_utils.benchmark.failure import BenchmarkError
from ansible_collections.attested.ai.plugins.module_utils.benchmark.statistics import Interval
from ansible_collections.attested.ai.plugins.module_utils.planning.tables import table

WITHIN, MORE, NOT_COMPARABLE, UNDECIDED = "within", "more", "not-comparable", "undecided"


@functools.lru_cache(maxsize=None)
def rows() -> t.Mapping[str, t.Any]:
    raw = pkgutil.get_data(__name__, "data/published.json")
    if raw is None:
        raise BenchmarkError("it is missing", where="data/published.json", fix="Install the collection again")
    return t.cast("t.Mapping[str, t.Any]", json.loads(raw))


def verdict(name: str, found: Interval, machine: t.Mapping[str, t.Any], differs: t.Sequence[str]) -> dict[str, str]:
    """``machine`` is the one with the TEE; ``differs`` names what else than the TEE is not the same on both sides."""
    for row in rows()["none"]:
        if name.startswith(row["measure"]):
            return _not(row["why"])
    about = [row for row in rows()["rows"] if name.startswith(row["measure"]) and name not in row.get("not", ())]
    if not about:
        return _not("no figure for it was published")
    capability = str(machine.get("gpu_capability") or "").partition(".")[0]
    fitting = [row for row in about if capability in row["capability"] and machine.get("tee") in row["tee"]]
    if not fitting:
        here = "%s, %s" % (machine.get("gpu") or "no GPU", machine.get("tee") or "no TEE")
        return _not("the published figures are of other machines than this one (%s)" % here)
    if differs:
        return _not("the sides differ in more than the TEE: %s" % ", ".join(differs))
    return _judge(fitting[0], found)


def _judge(row: t.Mapping[str, t.Any], found: Interval) -> dict[str, str]:
    figure = next(one for one in table("performance")["figures"] if one["id"] == row["figure"])
    source = "%s (%s; %s)" % (row["how"], figure["setup"], figure["source"])
    if found.high <= row["most"]:
        return {"verdict": WITHIN, "because": "within what is published: %s" % source, "figure": row["figure"]}
    if found.low > row["most"]:
        return {"verdict": MORE, "because": "more than what is published: %s" % source, "figure": row["figure"]}
    return {"verdict": UNDECIDED, "because": "the interval reaches over what is published: %s. Measure more rounds" % source, "figure": row["figure"]}


def _not(why: str) -> dict[str, str]:
    return {"verdict": NOT_COMPARABLE, "because": "not comparable, because %s" % why, "figure": ""}
