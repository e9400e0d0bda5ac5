# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook in real runs: the table, the file, the gate, and what it says to wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from .plan_lab import CONFIG, HOST, SHAPE

pytestmark = pytest.mark.costly


def run(folder, *arguments, **given):
    given.setdefault("plan_file", str(folder / "report" / "plan.json"))
    command = [sys.executable, "-m", "ansible", "playbook", "attested.ai.plan", "-e", json.dumps(given), *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "COLUMNS": "140", "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_plan_is_shown_and_written(tmp_path):
    small = {**HOST, "name": "small", "gpu": "h200", "gpus": 1}
    rc, text = run(tmp_path, plan_model=SHAPE, plan_hosts=[HOST, small])
    assert rc == 0 and "8 x H100 SXM (HGX), ppcie" in text and "does not fit" in text and "arXiv 2409.03992" in text, text
    plan = json.loads((tmp_path / "report" / "plan.json").read_text())
    assert plan["schema"] == "attested.ai/plan/1" and [host["fits"] for host in plan["hosts"]] == [True, False]
    assert all(figure["source"] for host in plan["hosts"] for figure in host["figures"])


def test_a_model_that_fits_nowhere_is_a_failure(tmp_path):
    rc, text = run(tmp_path, plan_model={**SHAPE, "parameters": "10T"}, plan_hosts=[HOST], plan_sources=False)
    assert rc == 2 and "fits into none of these hosts: host1" in text, text
    assert json.loads((tmp_path / "report" / "plan.json").read_text())["fits"] is False
    rc, _text = run(tmp_path, plan_model={**SHAPE, "parameters": "10T"}, plan_hosts=[HOST], plan_gate=False, plan_sources=False)
    assert rc == 0


def test_the_shape_comes_from_config_json(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    rc, text = run(
        tmp_path,
        "--check",
        # Relative, as the documentation has it: to where it is started, not to the collection.
        plan_config="config.json",
        plan_model={"name": "eight", "context": 8192, "concurrency": 4},
        plan_hosts=[HOST],
        plan_sources=False,
    )
    assert rc == 0 and "eight: 14.96 GiB of weights in bf16, 4 requests of up to 8192 tokens" in text, text
    assert not (tmp_path / "report").exists()


def test_wrong_input_is_one_line(tmp_path):
    rc, text = run(tmp_path, plan_model={**SHAPE, "dtype": "fp3"}, plan_hosts=[HOST])
    assert rc == 2 and "model.dtype: 'fp3' is not known. There are fp32" in text and "Traceback" not in text, text
    rc, text = run(tmp_path)
    assert rc == 2 and "Set plan_model and plan_hosts" in text, text
