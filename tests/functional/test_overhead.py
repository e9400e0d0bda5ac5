# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook on one machine that plays both sides, in one run: figures, comparison, table, and the room for a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys

SETTINGS = {
    "overhead_benchmark_become": False, "overhead_benchmark_passes": 2, "overhead_benchmark_rounds": 2,
    "overhead_benchmark_parts": ["memory", "file", "attestation"],
    "overhead_benchmark_sizes": [4096], "overhead_benchmark_file_size": 65536, "overhead_benchmark_confidence": 0.5, "overhead_benchmark_html": False,
    "overhead_benchmark_plan_model": {"size": "8 GB", "dtype": "bf16", "layers": 32, "kv_heads": 8, "head_dim": 128, "context": 1024, "concurrency": 1},
    "overhead_benchmark_plan_host": {"name": "here", "tee": "tdx", "ram_gib": 100000},
}  # fmt: skip


def test_both_sides_on_one_machine(tmp_path, soft_guest):
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {f"overhead_{side}": {"hosts": {f"guest-{side}": here}} for side in ("with", "without")}
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    # So large a model fits into the host that was given, and not into this machine, which was measured.
    files = {f"overhead_benchmark_{side}": f"report/overhead/guest-{side}-{side}.json" for side in ("with", "without")}
    settings = {**SETTINGS, **files, "overhead_benchmark_plan_model": {**SETTINGS["overhead_benchmark_plan_model"], "size": "8000 GB"}}
    settings["overhead_benchmark_tsm_path"] = str(soft_guest.tsm_path)
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.json", "attested.ai.overhead_benchmark", "-e", json.dumps(settings)]
    # As a program starts it that changed its folder and not PWD.
    environment = {**os.environ, "PWD": str(tmp_path / "elsewhere"), "COLUMNS": "140", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    text = " ".join((done.stdout + done.stderr).split())
    folder = tmp_path / "report" / "overhead"
    assert done.returncode == 2 and "and the model needs" in text and "Traceback" not in text, text
    assert not (tmp_path / "elsewhere").exists()
    assert len(json.loads((folder / "guest-with-with.json").read_text())) == 2
    compared = json.loads((folder / "comparison.json").read_text())
    assert compared["schema"] == "attested.ai/overhead-comparison/1" and compared["differences"] == []
    assert {row["id"] for row in compared["rows"]} >= {"memory.copy.4k", "memory.alloc-copy.4k", "file.read.64k", "attestation"}
    # Evidence was made anew in each round, and its time kept.
    for side in ("with", "without"):
        for document in json.loads((folder / f"guest-{side}-{side}.json").read_text()):
            seconds = document["measures"]["attestation"]["seconds"]
            assert len(seconds) == 2 and all(0 < one < 60 for one in seconds) and "attestation" not in document["absent"]
    assert all("passes are too few" in row["because"] for row in compared["rows"])
    assert "passes are too few" in text and "Bounce buffers, side on" in text
