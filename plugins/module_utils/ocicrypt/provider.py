# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The key provider protocol of ocicrypt: one JSON document in, one out.

The parameter is ``keypath=PATH::keyid=kbs:///repository/type/tag``, as CoCo's own provider takes it, but what that one ignores is refused here: an unknown
member, its built-in sample key, a mode without authentication, a key id that it would make up.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Mapping

from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import packet
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError

REQUEST_MAX = 1 << 20
_PARAMETERS = ("keypath", "keyid", "algorithm")
_WHERE = "key provider"


def answer(request: bytes, read_key: Callable[[str], bytes]) -> bytes:
    """What is to be said to ocicrypt. ``read_key`` gives the key at a path. Raises AttestedError; no message shows a key."""
    if len(request) > REQUEST_MAX:
        raise ImageError("the request is longer than %d bytes" % REQUEST_MAX, where=_WHERE, code="image-provider")
    document = strict.members(strict.loads(request, _WHERE), ("op",), ("keywrapparams", "keyunwrapparams"), where=_WHERE)
    if document["op"] == "keywrap":
        reply = {"keywrapresults": {"annotation": _wrap(_mapping(document.get("keywrapparams")), read_key)}}
    elif document["op"] == "keyunwrap":
        reply = {"keyunwrapresults": {"optsdata": _unwrap(_mapping(document.get("keyunwrapparams")), read_key)}}
    else:
        raise ImageError("it is asked for %s, not keywrap or keyunwrap" % strict.quoted(document["op"]), where=_WHERE, code="image-provider")
    return json.dumps(reply, separators=(",", ":")).encode("ascii")


def _wrap(given: Mapping[str, Any], read_key: Callable[[str], bytes]) -> str:
    parameters = _parameters(given.get("ec"))
    if "keyid" not in parameters:
        raise ImageError("keyid is missing", where=_WHERE, fix="Say provider:%s:keypath=FILE::keyid=kbs:///repository/type/tag" % packet.PROVIDER,
                         code="image-provider")  # fmt: skip
    options = strict.decode_base64(given.get("optsdata"), "optsdata", 1, packet.PACKET_MAX)
    return strict.encode_base64(packet.seal(read_key(parameters["keypath"]), parameters["keyid"], options).to_bytes())


def _unwrap(given: Mapping[str, Any], read_key: Callable[[str], bytes]) -> str:
    parameters = _parameters(given.get("dc"))
    found = packet.Packet.parse(strict.decode_base64(given.get("annotation"), "annotation", 1, packet.PACKET_MAX))
    if parameters.get("keyid", found.kid) != found.kid:
        raise ImageError("the layer is encrypted under %s, not %s" % (found.kid, parameters["keyid"]), where=_WHERE, code="image-wrong-key")
    return strict.encode_base64(found.open(read_key(parameters["keypath"])))


def _parameters(config: Any) -> Dict[str, str]:
    """The members of the one parameter that is ours."""
    mapping = _mapping(config)
    values = _mapping(mapping.get("Parameters")).get(packet.PROVIDER)
    if not isinstance(values, list) or len(values) != 1:
        raise ImageError("one parameter is expected for the provider %s" % packet.PROVIDER, where=_WHERE,
                         fix="A layer has one packet: give one key", code="image-provider")  # fmt: skip
    text = strict.decode_base64(values[0], "parameter", 1, 8192).decode("utf-8", "replace")
    found: Dict[str, str] = {}
    for part in text.split("::"):
        name, separator, value = part.partition("=")
        if not separator or name not in _PARAMETERS or name in found or not value:
            raise ImageError("%s is none of %s, each once and with a value" % (strict.quoted(name), ", ".join(_PARAMETERS)), where=_WHERE,
                             code="image-provider")  # fmt: skip
        found[name] = value
    if found.get("algorithm", packet.WRAP_TYPE) != packet.WRAP_TYPE:
        raise ImageError("the algorithm %s is not %s" % (strict.quoted(found["algorithm"]), packet.WRAP_TYPE), where=_WHERE, code="image-provider")
    if "keypath" not in found:
        raise ImageError("keypath is missing", where=_WHERE, code="image-provider")
    if "keyid" in found:
        packet.check_kid(found["keyid"], "keyid")
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ImageError("it is no request of ocicrypt", where=_WHERE, code="image-provider")
    return value
