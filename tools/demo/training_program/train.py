# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The program of the demonstration: one classifier from the records of all owners, and how well it does on what it has not seen.

    train.py DATA OUT

DATA has a folder for each owner with records.csv: 30 measurements and the diagnosis. OUT gets model/model.json (plain numbers: nobody has to run what
somebody else pickled) and metrics/metrics.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler


def main() -> int:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    owners = sorted(path.parent.name for path in data.glob("*/records.csv"))
    tables = [numpy.loadtxt(data / owner / "records.csv", delimiter=",", ndmin=2) for owner in owners]
    table = numpy.concatenate(tables)
    seen, unseen, known, unknown = train_test_split(table[:, :-1], table[:, -1], test_size=0.25, random_state=7, stratify=table[:, -1])
    scaler = StandardScaler().fit(seen)
    model = LogisticRegression(max_iter=500).fit(scaler.transform(seen), known)
    accuracy = float(model.score(scaler.transform(unseen), unknown))
    (out / "model").mkdir()
    (out / "metrics").mkdir()
    numbers = {"mean": scaler.mean_.tolist(), "scale": scaler.scale_.tolist(), "weights": model.coef_[0].tolist(), "bias": float(model.intercept_[0])}
    (out / "model" / "model.json").write_text(json.dumps(numbers))
    told = {"accuracy": accuracy, "records": {owner: len(rows) for owner, rows in zip(owners, tables)}, "tested_on": len(unseen)}
    (out / "metrics" / "metrics.json").write_text(json.dumps(told))
    print(f"trained on {len(seen)} records of {len(owners)} owners")
    return 0


if __name__ == "__main__":
    sys.exit(main())
