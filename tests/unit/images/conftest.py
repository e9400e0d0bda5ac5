# SPDX-License-Identifier: GPL-3.0-or-later
"""A real skopeo for the tests of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import images_lab  # noqa: E402
from ansible_collections.attested.ai.plugins.plugin_utils.skopeo import Skopeo  # noqa: E402


@pytest.fixture(scope="session")
def skopeo() -> Skopeo:
    """That of this machine, or Debian 13's, unpacked into .cache/skopeo. CI must not pass without one."""
    try:
        path = images_lab.tool().found(images_lab.REPO / ".cache" / "skopeo")  # type: ignore[attr-defined]
    except RuntimeError as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return Skopeo.find(path, tls_verify=False)


@pytest.fixture
def registry() -> Iterator[images_lab.Registry]:
    with images_lab.registry() as found:
        yield found
