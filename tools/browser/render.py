# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a report by the real role."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def render(variables: dict[str, Any], directory: Path) -> Path:
    """Path of the page. Values are data, also those that look like templates: variables of the command line would be templates."""
    (directory / "values.json").write_text(json.dumps(variables), encoding="utf-8")
    names = {name: "{{ __values['%s'] }}" % name for name in variables}
    taken = {"__values": "{{ lookup('ansible.builtin.file', '%s') | from_json }}" % (directory / "values.json"), **names, "report_directory": str(directory)}
    (directory / "vars.json").write_text(json.dumps(taken), encoding="utf-8")
    command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", "ansible.builtin.include_role", "-a", "name=attested.ai.report"]
    command += ["-e", f"@{directory / 'vars.json'}", "-e", f"ansible_python_interpreter={sys.executable}", "-e", f"playbook_dir={directory}"]
    found = subprocess.run(command, cwd=directory, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(found.stdout + found.stderr)
    return directory / "report.html"
