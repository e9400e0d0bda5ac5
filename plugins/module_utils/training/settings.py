# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an image that starts a job by itself is told: by its own settings, which are measured with it, how; by a file of the host's, where keys are.

The host's file can name nothing else. A broker that it makes up has no key that opens the data, and makes no tags that an owner believes.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs, strict
from ansible_collections.attested.ai.plugins.module_utils.training.agreement import PARTIES_MAX, Agreement
from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError
from ansible_collections.attested.ai.plugins.module_utils.training.options import SETTINGS, USER, limits_of

SETTINGS_SCHEMA, JOB_SCHEMA = "attested.ai/training-settings/1", "attested.ai/training-sources/1"
SIZE_MAX = 1 << 20
_TEXT_MAX, _CA_MAX, _PINS_MAX = 1024, 1 << 16, 8
# What values may be, by the word that argument specs have for it.
_TYPES = {"path": str, "str": str, "int": int, "bool": bool}


def settings_bytes(options: Mapping[str, Any]) -> bytes:
    """The file for the image. Raises AttestedError on settings that no job could run with."""
    data = jcs.canonicalize({"schema": SETTINGS_SCHEMA, **{name: options[name] for name in SETTINGS}}) + b"\n"
    parse_settings(data, "settings")
    return data


def parse_settings(raw: bytes, where: str) -> Dict[str, Any]:
    """Options of ``options.apply``. Raises AttestedError."""
    found = dict(strict.members(strict.loads(raw, where), ("schema", *SETTINGS), where=where))
    if found.pop("schema") != SETTINGS_SCHEMA:
        raise TrainingError("its schema is not %s" % SETTINGS_SCHEMA, where=where, code="training-settings")
    for name, value in found.items():
        spec = SETTINGS[name]
        if value is None and "default" not in spec:
            continue
        right = isinstance(value, _TYPES[spec["type"]]) and isinstance(value, bool) == (spec["type"] == "bool") and value in spec.get("choices", (value,))
        if not right or spec["type"] == "path" and not str(value).startswith("/"):
            raise TrainingError("%s is not what it may be" % name, where=where, fix="Make it with attested.ai.training_program", code="training-settings")
    found["user"] = USER
    limits_of(found)
    return found


def parse_job(raw: bytes, where: str, agreement: Agreement) -> List[Dict[str, Any]]:
    """The sources, with the folder of each party's data. Raises TrainingError."""
    try:
        return _sources(raw, where, agreement)
    except AttestedError as error:
        raise TrainingError(error.what, where=error.where or where, fix=error.fix, code="training-job") from None


def _sources(raw: bytes, where: str, agreement: Agreement) -> List[Dict[str, Any]]:
    if len(raw) > SIZE_MAX:
        raise TrainingError("it is longer than %d bytes" % SIZE_MAX, where=where)
    obj = strict.members(strict.loads(raw, where), ("schema", "sources"), where=where)
    if obj["schema"] != JOB_SCHEMA:
        raise TrainingError("its schema is not %s" % JOB_SCHEMA, where=where)
    given = obj["sources"]
    if not isinstance(given, list) or not 1 <= len(given) <= PARTIES_MAX:
        raise TrainingError("sources is no list of 1 to %d sources" % PARTIES_MAX, where=where)
    found = [_source(entry, "%s source %d" % (where, index), agreement) for index, entry in enumerate(given)]
    names = [source["party"] for source in found]
    if len(set(names)) != len(names):
        raise TrainingError("a party is there twice", where=where)
    return found


def _source(value: Any, where: str, agreement: Agreement) -> Dict[str, Any]:
    obj = strict.members(value, ("party", "url", "pins", "resource"), ("ca", "server_name"), where)
    # Only names of the agreement come into a path.
    party = agreement.party(strict.text_of(obj["party"], where + " party", _TEXT_MAX)).id
    pins = obj["pins"]
    if not isinstance(pins, list) or not 1 <= len(pins) <= _PINS_MAX:
        raise TrainingError("pins is no list of 1 to %d keys" % _PINS_MAX, where=where, fix="Pin the key of the broker")
    found: Dict[str, Any] = {"party": party, "src": "data/" + party, "pins": [strict.text_of(pin, where + " pin", _TEXT_MAX) for pin in pins]}
    for name in ("url", "resource"):
        found[name] = strict.text_of(obj[name], "%s %s" % (where, name), _TEXT_MAX)
    found["ca"] = strict.text_of(obj.get("ca", ""), where + " ca", _CA_MAX)
    found["server_name"] = strict.text_of(obj.get("server_name", ""), where + " server_name", _TEXT_MAX)
    return found
