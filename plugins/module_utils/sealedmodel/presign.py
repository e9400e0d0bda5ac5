# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses of objects in an S3-compatible store that carry their own permission to read: AWS Signature Version 4 in the query. Pure.

A guest gets these and no credentials: they read named objects, for a while. Checked against the example of AWS's documentation and botocore.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Dict, Iterable
from urllib.parse import quote, urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError

_ALGORITHM = "AWS4-HMAC-SHA256"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z0-9-]{1,40}\Z")
# What the standard allows.
MAX_EXPIRES = 7 * 24 * 3600


@dataclass(frozen=True)
class Store:
    """A bucket and who may read it. ``endpoint`` "" is AWS; others usually need ``path_style``."""

    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    region: str = "us-east-1"
    endpoint: str = ""
    path_style: bool = False

    def __post_init__(self) -> None:
        if not _BUCKET.match(self.bucket) or not _REGION.match(self.region):
            raise ModelError("it is no name of a bucket or of a region", where="%s, %s" % (ascii(self.bucket), ascii(self.region)), code="model-s3")
        if not self.access_key or not self.secret_key:
            raise ModelError("access_key and secret_key are needed", where=self.bucket, code="model-s3")
        parts = urlsplit(self.endpoint or "https://s3.amazonaws.com")
        if parts.scheme not in ("https", "http") or not parts.netloc or parts.username or parts.query or parts.path not in ("", "/"):
            raise ModelError("it is no endpoint like https://s3.example.com", where="endpoint", code="model-s3")

    @property
    def base(self) -> str:
        """Scheme and host."""
        if not self.endpoint:
            host = "s3.amazonaws.com" if self.region == "us-east-1" else "s3.%s.amazonaws.com" % self.region
            scheme = "https"
        else:
            parts = urlsplit(self.endpoint)
            scheme, host = parts.scheme, parts.netloc
        return "%s://%s" % (scheme, host if self.path_style else "%s.%s" % (self.bucket, host))


def presigned(store: Store, names: Iterable[str], prefix: str, expires: int, at: datetime) -> Dict[str, str]:
    """Addresses by name, each for GET of the object <prefix><name>, valid for ``expires`` seconds from ``at`` on."""
    if not 1 <= expires <= MAX_EXPIRES:
        raise ModelError("%d seconds are not possible, 1 to %d are" % (expires, MAX_EXPIRES), where="expires", code="model-s3")
    if at.utcoffset() is None:
        raise ModelError("a time with its zone is needed", where="time", code="model-s3")
    return {name: _url(store, prefix + name, expires, at.astimezone(timezone.utc)) for name in names}


def _url(store: Store, key: str, expires: int, at: datetime) -> str:
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    scope = "%s/%s/s3/aws4_request" % (moment[:8], store.region)
    # The parts of a path are encoded once here, unlike with other services.
    path = quote("/%s/%s" % (store.bucket, key) if store.path_style else "/" + key, safe="/-_.~")
    asked = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": "%s/%s" % (store.access_key, scope),
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": "host",
    }
    if store.session_token:
        asked["X-Amz-Security-Token"] = store.session_token
    query = "&".join("%s=%s" % (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in sorted(asked.items()))
    request = "\n".join(["GET", path, query, "host:%s" % urlsplit(store.base).netloc, "", "host", "UNSIGNED-PAYLOAD"])
    text = "\n".join([_ALGORITHM, moment, scope, hashlib.sha256(request.encode("ascii")).hexdigest()])
    key_bytes = ("AWS4" + store.secret_key).encode("utf-8")
    for part in (moment[:8], store.region, "s3", "aws4_request"):
        key_bytes = hmac.new(key_bytes, part.encode("ascii"), hashlib.sha256).digest()
    signature = hmac.new(key_bytes, text.encode("ascii"), hashlib.sha256).hexdigest()
    return "%s%s?%s&X-Amz-Signature=%s" % (store.base, path, query, signature)
