# SPDX-License-Identifier: GPL-3.0-or-later
"""All guides against the collection: what they tell people to type and to write exists. Parsed, not run; what is run is named in each guide."""

from __future__ import annotations

import collections
import re

import pytest

from .guides_checks import problems
from .guides_known import known as what_there_is
from .guides_lab import REPO, Guide, guides


@pytest.fixture(scope="module")
def known():
    return what_there_is()


def test_what_guides_tell_to_type_and_write_is_there(known):
    seen = collections.Counter()
    wrong = [one for guide in guides() for one in problems(guide, known, seen)]
    assert not wrong, "\n".join(wrong)
    assert seen["names"] > 300 and seen["tasks"] > 50 and seen["variables"] > 100 and seen["commands"] > 20 and seen["links"] > 100, seen


TASK = "```yaml\n- name: X\n  %s\n```\n"
TYPED = "```console\n$ %s\n```\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TASK % "attested.ai.attest: {polcy: p, reference_values: r}", "attested.ai.attest has no option polcy"),
        (TASK % "attested.ai.collateral: {store: s}", "attested.ai.collateral needs operation"),
        (TASK % "attested.ai.atest:", "there is no attested.ai.atest"),
        (TASK % 'x: "{{ 1 | attested.ai.no_filter }}"', "there is no attested.ai.no_filter"),
        (TASK % "roles: [attested.ai.tdx_hosts]", "there is no attested.ai.tdx_hosts"),
        (TASK % "roles: [{role: attested.ai.attest}]", "there is no role attested.ai.attest"),
        (TASK % "import_playbook: attested.ai.tdx_host", "there is no import_playbook attested.ai.tdx_host"),
        (TASK % "vars: {tdx_host_kernal: x}", "no role and no playbook knows tdx_host_kernal"),
        (TASK % "x: [", "while parsing"),
        (TYPED % "ansible-playbook attested.ai.attest --chek", "unrecognized arguments: --chek"),
        (TYPED % "ansible-playbook -i x attested.ai.tdx_host", "there is no playbook attested.ai.tdx_host"),
        (TYPED % "ansible-playbook attested.ai.attest -e atest_policy=p", "no role and no playbook knows atest_policy"),
        (TYPED % "ansible-playbook 'x", "No closing quotation"),
        (TYPED % "ansible-doc attested.ai.atest", "there is no attested.ai.atest"),
        ("[x](gone.md)", "gone.md"),
        ("[x](awx.md#nowhere)", "awx.md#nowhere"),
        ("# Here\n[x](#there)", "#there"),
    ],
)
def test_what_is_wrong_in_a_guide_is_found(known, text, says):
    (found,) = problems(Guide(REPO / "docs" / "quickstart.md", text), known)
    assert says in found


def test_the_site_has_every_guide():
    index = (REPO / "docs" / "docsite" / "index.md").read_text(encoding="utf-8")
    listed = [line for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL) for line in block.splitlines() if line and not line.startswith(":")]
    assert sorted(set(listed) - {"plugins/index"}) == sorted(path.stem for path in (REPO / "docs").glob("*.md"))
    assert len(listed) == len(set(listed))
