# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long this guest takes to make evidence."""

from __future__ import annotations

import base64
import os
import time
from typing import Dict

from ansible_collections.attested.ai.plugins.module_utils.benchmark.measures.measure import Found, Measure
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Request, collect_all

NAME = "attestation"


def attestation(found: Found, tsm_path: str) -> None:
    def call() -> Dict[str, float]:
        nonce = base64.b64encode(os.urandom(32)).decode()
        begin = time.perf_counter()
        collect_all(Request(nonce=nonce, tsm_path=tsm_path, event_log="none"))
        return {NAME: time.perf_counter() - begin}

    try:
        call()
    except AttestedError as error:
        found.absent[NAME] = str(error)
        return
    found.measures.append(Measure(NAME, call))
