# SPDX-License-Identifier: GPL-3.0-or-later
"""Presigned addresses: the example of AWS's documentation. botocore is asked in tests/peers."""

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
    assert made.startswith("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "&X-Amz-Credential=AKIAIOSFODNN7" + "EXAMPLE%2F20130524%2F" in made
    assert made.endswith("&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize(("options", "said"), [
    ({"bucket": "no/bucket"}, "bucket"), ({"expires": 0}, "expires"), ({"expires": 10**6}, "expires"), ({"endpoint": "s3.example.org"}, "endpoint"),
    ({"secret_key": ""}, "secret_key"), ({"region": "eu central"}, "region"),
])  # fmt: skip
def test_what_cannot_be_signed(options, said):
    with pytest.raises(AnsibleFilterError, match=said):
        s3_presigned(["x"], **{"bucket": "models", **KEY, **options})
    with pytest.raises(AnsibleFilterError, match="list of names"):
        s3_presigned("x", bucket="models", **KEY)
