# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say what a refusal of a KBS means. Nearly all of them are 401, so the status tells nothing and the ``type`` of the body nearly all.

Source: trustee v0.21.0, kbs/src/error.rs, kbs/src/admin/error.rs, kbs/src/attestation/error.rs, kbs/src/token/error.rs.
"""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Dict, NamedTuple, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.formats.strict import quoted
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Answer

# jsonwebtoken forgives this much when it looks at exp.
LEEWAY = 60
_DETAIL_MAX = 300


class Meaning(NamedTuple):
    code: str
    what: str
    fix: str


_ADMIN = "kbs-admin-denied"
# Part of the detail of an admin refusal -> what it means. Only these texts differ: type and status are the same.
_ADMIN_DETAILS: Tuple[Tuple[str, Meaning], ...] = (
    ("Cannot verify token with any of the issuers", Meaning(
        _ADMIN, "it does not accept the admin token",
        "One of four is wrong: the key (its public half is what public_key_uri or jwk_set_uri of [admin.authentication.bearer_jwt] names), issuer, audience, "
        "or the clock")),
    ("Missing required `role` claim", Meaning(_ADMIN, "the admin token has no claim role", "Mint it with a role; KBS 0.21 and later need one")),
    ("not allowed for path", Meaning(
        _ADMIN, "the role of the admin token may not do this", "Allow it in acls of [admin.authorization.regex_acl], or use another role")),
    ("DenyAll", Meaning(_ADMIN, "its admin interface is switched off (DenyAll)", "Set authorization_mode of [admin] to AuthenticatedAuthorization")),
    ("Failed to parse HTTP Auth Bearer header", Meaning(_ADMIN, "it saw no admin token", "Something on the way removes the header Authorization")),
)
_MEANINGS: Dict[str, Meaning] = {
    "AdminAuthAccess": Meaning(_ADMIN, "it denies admin access", "See [admin] of its configuration and its log"),
    # What plugins (resources) give for the same reasons: the conversion of the error has this name in v0.21.
    "AdminAuthInitialization": Meaning(_ADMIN, "it denies admin access", "See [admin] of its configuration and its log"),
    "InvalidRequestPath": Meaning("kbs-path", "the path is none of its own", "Compare the address: it ends before /kbs/v0"),
    "PluginNotFound": Meaning("kbs-plugin", "it has no such plugin", "Enable it in [[plugins]] of its configuration (the one for secrets is named resource)"),
    "PluginInternalError": Meaning(
        "kbs-plugin-failed", "its plugin fails: the resource is not there, its path is none of the form repository/type/tag, or its storage does not work",
        "Its log tells which of the three"),
    "PolicyDeny": Meaning(
        "kbs-policy-denied", "its resource policy refuses",
        "Compare the token (state of each submodule, init-data digest) with what the policy asks for this path"),
    "ParsePolicyError": Meaning("kbs-policy-form", "it cannot read the request that sets the policy", "This is a fault of the client: report it"),
    "PolicyEngineError": Meaning(
        "kbs-policy-engine", "its policy engine fails: the resource policy in force is no valid Rego, or its storage does not work",
        "Upload a policy that was checked; until then nobody gets anything"),
    "RvpsError": Meaning("kbs-rvps", "its reference value provider fails", "See that [attestation_service] has one and that it runs"),
    "AttestationError": Meaning("kbs-attestation", "its attestation service refuses", "Its log tells why"),
    "TokenNotFound": Meaning("kbs-token-missing", "it sees no attestation: the session ended, or there was none", "Attest first, then ask within five minutes"),
    "TokenVerifierError": Meaning(
        "kbs-token-refused", "it does not accept the attestation token",
        "Compare [attestation_token] with the key that signs tokens, and whether its certificate has expired (30 days in the compose setup)"),
    "JweError": Meaning("kbs-jwe", "it cannot encrypt to the guest's key", "Use EC on P-256 or P-521, or RSA with RSA-OAEP-256"),
    "SerdeError": Meaning("kbs-failed", "it fails at its own data", "See its log"),
    "PrometheusError": Meaning("kbs-failed", "its metrics fail", "See its log"),
}
_ATTESTATION: Tuple[Tuple[str, Meaning], ...] = (
    ("Version Mismatch", Meaning(
        "kbs-version", "it speaks another version of the protocol", "0.4.0 is spoken by Trustee 0.19 to 0.21: use a KBS of these, or a newer collection")),
    ("Auth failed", Meaning("kbs-auth", "it refuses the first step of the handshake", "Compare the kind of TEE with those that it was built for")),
    ("Attest failed", Meaning(
        "kbs-evidence", "it does not accept the evidence, or its attestation policy cannot be evaluated",
        "Its log tells which; a bad attestation policy makes every attestation fail")),
    ("Set Attestation Policy failed", Meaning("kbs-policy-rejected", "it rejects the attestation policy", "Correct the Rego")),
)


def explain(answer: Answer, doing: str, where: str) -> KbsError:
    """The error for an answer that is none of success. ``doing`` says what was asked for, such as "store default/key/a"."""
    variant, detail = _body(answer)
    meaning = _meaning(variant, detail)
    if meaning is None:
        return _foreign(answer, doing, where)
    said = " (it says: %s)" % detail if detail and variant not in ("PolicyDeny", "PluginInternalError") else ""
    what = "cannot %s: %s%s" % (doing, meaning.what, said)
    skew = clock_skew(answer)
    fix = meaning.fix
    if skew is not None and abs(skew) > LEEWAY and (meaning.code == _ADMIN or variant in ("TokenVerifierError", "TokenNotFound")):
        fix = "Its clock is %d seconds %s ours: set the clocks first. %s" % (abs(skew), "ahead of" if skew > 0 else "behind", fix)
    return KbsError(what, where=where, fix=fix, code=meaning.code, status=answer.status, variant=variant)


def clock_skew(answer: Answer) -> Optional[int]:
    """Seconds that the server's clock (header Date) is ahead of ours; None if it does not tell the time."""
    try:
        moment = parsedate_to_datetime(answer.headers.get("date", ""))
        return round(moment.timestamp() - answer.at)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _body(answer: Answer) -> Tuple[str, str]:
    """(name of the error, its text) of the body; empty where it is no error of a KBS."""
    try:
        body = json.loads(answer.body.decode("utf-8"))
        kind, detail = body["type"], body.get("detail", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""
    if not isinstance(kind, str) or "/errors/" not in kind:
        return "", ""
    # Printable, short and in one line: what a server says ends on the terminal of the user.
    text = " ".join(str(detail).split()).encode("ascii", "replace").decode("ascii")
    return kind.rpartition("/")[2][:40], "".join(letter for letter in text if letter.isprintable())[:_DETAIL_MAX]


def _meaning(variant: str, detail: str) -> Optional[Meaning]:
    if not variant:
        return None
    details = _ADMIN_DETAILS if variant.startswith("AdminAuth") else _ATTESTATION if variant == "AttestationError" else ()
    for part, meaning in details:
        if part in detail:
            return meaning
    found = _MEANINGS.get(variant)
    return found or Meaning("kbs-failed", "it fails with %s, which is not known here" % quoted(variant), "See its log")


def _foreign(answer: Answer, doing: str, where: str) -> KbsError:
    if answer.status == 413:
        return KbsError("cannot %s: it is too large" % doing, where=where, fix="Raise payload_request_size of [http_server] (MiB)",
                        code="kbs-too-large", status=413)
    if 300 <= answer.status < 400:
        target = quoted(answer.headers.get("location", ""))
        return KbsError("cannot %s: the answer is %d and points to %s" % (doing, answer.status, target), where=where,
                        fix="Give that address if it is the right one", code="kbs-redirect", status=answer.status)
    if answer.status in (429, 502, 503, 504):
        return KbsError("cannot %s: the answer is %d, of something before the KBS that cannot reach it" % (doing, answer.status), where=where,
                        fix="See whether the KBS runs", code="kbs-unavailable", status=answer.status)
    return KbsError("cannot %s: the answer is %d and no error of a KBS" % (doing, answer.status), where=where,
                    fix="Something else answers in its place, or the address is wrong", code="kbs-foreign", status=answer.status)
