# SPDX-License-Identifier: GPL-3.0-or-later
"""Presigned addresses: the example of AWS's documentation, and botocore where it is installed."""

from __future__ import annotations

import datetime

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.attested.ai.plugins.filter.s3_presigned import FilterModule

s3_presigned = FilterModule().filters()["s3_presigned"]
# Of "Authenticating Requests: Using Query Parameters" in the S3 API reference: a key that everybody knows.
KEY = {"access_key": "AKIAIOSFODNN7" + "EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"}
TIME = int(datetime.datetime(2013, 5, 24, tzinfo=datetime.timezone.utc).timestamp())


def test_the_example_of_the_documentation():
    made = s3_presigned(["test.txt"], bucket="examplebucket", expires=86400, time=TIME, **KEY)["test.txt"]
    assert made.startswith("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F")
    assert made.endswith("&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize("options", [
    {"region": "eu-central-1"}, {"endpoint": "https://s3.example.org:9000", "path_style": True}, {"session_token": "a+token/with=signs"},
    {"region": "eu-central-1", "path_style": True, "prefix": "models/m-1/"},
])  # fmt: skip
@pytest.mark.parametrize("name", ["config.json.tink", "weights/a b+%~caf\u00e9.bin.tink"])
def test_botocore_says_the_same(options, name):
    auth = pytest.importorskip("botocore.auth")
    awsrequest, credentials = pytest.importorskip("botocore.awsrequest"), pytest.importorskip("botocore.credentials")
    made = s3_presigned([name], bucket="models", **KEY, **options)[name]
    base, _mark, query = made.partition("?")
    request = awsrequest.AWSRequest("GET", base, headers={})
    given = credentials.Credentials(KEY["access_key"], KEY["secret_key"], options.get("session_token"))
    signer = auth.S3SigV4QueryAuth(given, "s3", options.get("region", "us-east-1"), expires=3600)
    at = dict(part.split("=") for part in query.split("&"))["X-Amz-Date"]
    request.context["timestamp"] = at
    signer._inject_signature_to_request, original = (lambda asked, signature: signature), signer._inject_signature_to_request
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert original is not None and made.endswith("X-Amz-Signature=" + signature)


@pytest.mark.parametrize(("options", "said"), [
    ({"bucket": "no/bucket"}, "bucket"), ({"expires": 0}, "expires"), ({"expires": 10**6}, "expires"), ({"endpoint": "s3.example.org"}, "endpoint"),
    ({"secret_key": ""}, "secret_key"), ({"region": "eu central"}, "region"),
])  # fmt: skip
def test_what_cannot_be_signed(options, said):
    with pytest.raises(AnsibleFilterError, match=said):
        s3_presigned(["x"], **{"bucket": "models", **KEY, **options})
    with pytest.raises(AnsibleFilterError, match="list of names"):
        s3_presigned("x", bucket="models", **KEY)
