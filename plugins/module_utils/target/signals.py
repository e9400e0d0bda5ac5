# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signals that would end the process become one exception, so that ``finally`` blocks still run."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def signals_as_errors() -> Iterator[None]:
    """Within the block the first of SIGTERM, SIGHUP and SIGINT raises CollectError(code=interrupted); later ones are ignored.

    Does nothing outside the main thread, where Python sets no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: Any) -> None:
        # One exception only: the clean-up that it starts is not to be interrupted by the next signal.
        for name in _ENDING:
            signal.signal(name, signal.SIG_IGN)
        raise CollectError("it was interrupted by %s" % signal.Signals(number).name, code="interrupted")

    before = {name: signal.signal(name, handler) for name in _ENDING}
    try:
        yield
    finally:
        for name, action in before.items():
            # None is a handler that was not set from Python: there is nothing to give back.
            signal.signal(name, action if action is not None else signal.SIG_DFL)
