# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration of training, as users run it: three owners, three brokers, a guest, a real model, and five refusals in one run of ansible-playbook."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
OWNERS = ("clinic-a", "clinic-b", "clinic-c")


def test_three_owners_train_one_model(tmp_path):
    if importlib.util.find_spec("sklearn") is None:
        pytest.fail("scikit-learn is missing: it is one of the requirements of the tests")
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(REPO / "playbooks" / "demo_train.yml"), "-e", f"train_dir={tmp_path}/demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, cwd=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "Traceback" not in output, output[-4000:]
    refused = re.findall(r"^(.+?) {2,}(training-\S+|kbs-\S+|model-\S+)$", output, re.MULTILINE)
    assert [code for _title, code in refused] == ["training-code", "training-launch", "kbs-policy-denied", "kbs-policy-denied", "model-tag"]
    demo = tmp_path / "demo"
    metrics = json.loads((demo / "opened" / "clinic-c" / "metrics" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.9 and sum(metrics["records"].values()) == 569 and sorted(metrics["records"]) == list(OWNERS)
    # The model is that of the two who agreed on it.
    models = [path.parent.parent.name for path in demo.glob("opened/*/model/model.json")]
    assert sorted(models) == ["clinic-a", "clinic-b"]
    model = (demo / "opened" / "clinic-a" / "model" / "model.json").read_bytes()
    # What guest and controller keep holds neither records nor the model.
    weights, record = model[:60], (demo / "records" / "clinic-b" / "records.csv").read_bytes()[:60]
    kept = [path for folder in ("guest", "results") for path in (demo / folder).rglob("*") if path.is_file()]
    assert len(kept) > 8 and not any(text in path.read_bytes() for path in kept for text in (weights, record))
    assert record.decode() not in output and weights.decode() not in output
