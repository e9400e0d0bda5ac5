# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Numbers for people who run the server. They count; they never hold anything of a request."""

from __future__ import annotations

import threading
from typing import Dict, Tuple

_HELP = {
    "requests_total": ("counter", "Requests by kind and outcome"),
    "in_flight": ("gauge", "Requests that are being answered"),
    "connections": ("gauge", "Open connections"),
    "seconds_total": ("counter", "Seconds spent on answers of the model"),
    "evidence_total": ("counter", "Evidence asked for, by outcome"),
    "evidence_seconds_total": ("counter", "Seconds that the TEE took for evidence"),
    "up": ("gauge", "Whether a model is served"),
}
PREFIX = "attested_model_"
Labels = Tuple[Tuple[str, str], ...]


class Metrics:
    """Counters and gauges, written as the text format of Prometheus."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Dict[Tuple[str, Labels], float] = {}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def put(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._values[(name, tuple(sorted(labels.items())))] = value

    def text(self) -> str:
        """Names and labels are this program's own words, so nothing has to be escaped."""
        with self._lock:
            values = sorted(self._values.items())
        lines = []
        last = ""
        for (name, labels), value in values:
            if name != last:
                kind, text = _HELP[name]
                lines += ["# HELP %s%s %s" % (PREFIX, name, text), "# TYPE %s%s %s" % (PREFIX, name, kind)]
                last = name
            shown = "{%s}" % ",".join('%s="%s"' % pair for pair in labels) if labels else ""
            lines.append("%s%s%s %.10g" % (PREFIX, name, shown, value))
        return "\n".join(lines) + "\n"
