# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""Deal scikit-learn's breast-cancer records (569, of the University of Wisconsin, CC BY 4.0) to some owners: FOLDER/OWNER/records.csv.

    split_dataset.py FOLDER clinic-a clinic-b clinic-c
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
from sklearn.datasets import load_breast_cancer


def main() -> int:
    folder, owners = Path(sys.argv[1]), sys.argv[2:]
    records = load_breast_cancer()
    table = numpy.column_stack([records.data, records.target])
    for number, owner in enumerate(owners):
        (folder / owner).mkdir(parents=True, exist_ok=True)
        numpy.savetxt(folder / owner / "records.csv", table[number :: len(owners)], delimiter=",", fmt="%.17g")
    return 0


if __name__ == "__main__":
    sys.exit(main())
