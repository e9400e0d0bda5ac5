# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""The report in a real browser: written by the role, measured in headless Chromium, on screens of three widths, light and dark, and on paper.

ATTESTED_BROWSER names the browser. ATTESTED_BROWSER=none says that none is wanted: only then does CI go without these tests.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools" / "browser"))

import chromium  # noqa: E402  (found by the path above)
import example_fleet  # noqa: E402
from render import render  # noqa: E402

pytestmark = pytest.mark.costly
MEASURES = (REPO / "tools" / "browser" / "looks.js").read_text(encoding="utf-8")
HOSTILE = "</td></svg><script>document.title='taken'</script><img src=http://beacon.example.org/ onerror=alert(1)>\" onmouseover='x' {{ 7 * 7 }} &amp;"
LONG = "node-" + "a" * 230 + ".example.org"
WIDTHS, SCHEMES = (400, 800, 1280), ("light", "dark")
# A4 within the browser's margins of 1 cm, in pixels of CSS. Any browser's are near it.
A4 = round((210 - 2 * 10) / 25.4 * 96)

# Each fault that the measures are for, so that none of them is good by not looking.
FAULTY = """<!doctype html><html><title></title><meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>p { color: #999; background: #fff } div { width: 3000px } .cut { width: 20px; overflow: hidden; white-space: nowrap } pre { overflow-x: auto }</style>
<h1>One</h1><h3>Three</h3><p id=a>pale</p><div id=a>wide</div><section class=cut>a text that is nowhere whole</section><pre>no keyboard gets here</pre>
<svg width=300 height=20><rect width=300 height=20 fill="#000"/><text x=0 y=15 fill="#222">dark on dark</text><use href="#nowhere"/></svg>
<table><thead><tr><th>A</th></tr></thead><tr><td title="only here">1</td><td>2</td></tr></table><section role=region></section>
<img src="http://beacon.example.org/x.png"><span onclick="1">x</span><script>1</script></html>"""


@pytest.fixture(scope="module")
def seen():
    wanted = os.environ.get("ATTESTED_BROWSER", "")
    if wanted == "none":
        pytest.skip("ATTESTED_BROWSER=none: the report was not looked at in a browser")
    try:
        path = chromium.find(wanted)
    except chromium.BrowserError as error:
        if wanted or os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{error}; or say ATTESTED_BROWSER=none")
        pytest.skip(str(error))
    with chromium.browser(path) as browser:
        yield browser


def opened(browser: chromium.Browser, page: Path) -> chromium.Page:
    shown = chromium.Page(browser, page.as_uri())
    shown.run(f"globalThis.looks = {MEASURES}; looks.open()")
    return shown


@pytest.fixture(scope="module")
def page(seen, tmp_path_factory):
    """A fleet in every state, its outlook and its history, three workloads, and values that somebody chose to do harm."""
    values = example_fleet.variables()
    change = {"kind": "machine", "item": HOSTILE, "what": HOSTILE, "before": HOSTILE, "after": LONG}
    bad = example_fleet.result(HOSTILE, bad={"policy-debug": HOSTILE, LONG: LONG})
    values["report_title"] += f" {HOSTILE} {LONG}"
    values["report_runs"] += [
        {"name": HOSTILE, "host": HOSTILE, "workload": HOSTILE, "result": bad}, {"name": LONG, "host": LONG, "workload": LONG, "ok": False, "detail": LONG},
        *({"name": f"run {number}", "result": example_fleet.result(f"host{number}")} for number in range(12)),
        {"name": LONG, "result": example_fleet.result(LONG)},
    ]  # fmt: skip
    shown = {"host": HOSTILE, "why": HOSTILE, "anchor": HOSTILE, "changes": [change], "tees": [HOSTILE], "evaluated_at": HOSTILE, "policy": HOSTILE}
    values["report_fleet"] = [*values["report_fleet"], {**shown, "state": "contraindicated"}, {"host": LONG, "state": "affirming", "why": LONG}]
    values["report_history"] = [*values["report_history"], {"at": HOSTILE, "host": HOSTILE, "event": HOSTILE, "detail": LONG, "changes": [change]}]
    event = example_fleet.foretold(HOSTILE, HOSTILE, None, None, LONG, HOSTILE)
    recovery = {"number": 22, "guests": 2, "refused": [HOSTILE, LONG], "unknown": []}
    known = values["report_forecast"]
    values["report_forecast"] = {**known, "msg": HOSTILE, "forecast": [*known["forecast"], event], "recoveries": [*known["recoveries"], recovery]}
    values["report_tables"] = [{"title": HOSTILE, "text": LONG, "columns": [{"key": "a", "title": HOSTILE}], "rows": [{"a": LONG}]}]
    return opened(seen, render(values, tmp_path_factory.mktemp("looked-at")))


def test_every_measure_finds_its_fault(seen, tmp_path):
    (tmp_path / "faulty.html").write_text(FAULTY, encoding="utf-8")
    faulty = opened(seen, tmp_path / "faulty.html")
    faulty.show(800)
    names = ("contrast", "overflow", "cut", "pictures", "headings", "tables", "hover", "references", "foreign")
    found = {name: faulty.run(f"looks.{name}()") for name in names}
    assert all(found.values()), found
    assert len(found["contrast"]) == 2 and len(found["references"]) == 3 and len(found["tables"]) == 4 and len(found["foreign"]) == 3, found
    assert faulty.unnamed() and faulty.complaints() and any("beacon" in url for url in faulty.requests())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_can_be_read_on_every_screen(page, width, scheme):
    page.show(width, scheme)
    assert page.run("looks.seen()") > 600
    assert {name: page.run(f"looks.{name}()") for name in ("contrast", "overflow", "cut")} == {"contrast": [], "overflow": [], "cut": []}
    assert page.run("document.querySelectorAll('.runs td:nth-child(2)')[0].checkVisibility()"), "the step of a run is not shown"


def test_it_can_be_used_without_eyes_or_a_mouse(page):
    page.show(1280)
    names = ("pictures", "headings", "tables", "hover", "references")
    assert {name: page.run(f"looks.{name}()") for name in names} == {name: [] for name in names}
    assert page.unnamed() == []


def test_what_a_guest_chose_stays_text(page):
    assert page.run("looks.foreign()") == []
    assert page.run("document.title").startswith("Attestation of the fleet </td></svg><script>")
    assert page.run("document.body.textContent").count(HOSTILE) >= 20, "a value is missing, or something was made of it"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_paper_has_the_picture_and_the_steps(page, scheme):
    page.show(A4, scheme, media="print")
    shown = {name: page.run(f"document.querySelector('{name}').checkVisibility()") for name in (".thread", ".runs td:nth-child(2)", ".found dd", ".paper")}
    assert all(shown.values()), shown
    assert {name: page.run(f"looks.{name}()") for name in ("contrast", "overflow", "cut")} == {"contrast": [], "overflow": [], "cut": []}
    assert page.run("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_the_printed_file_holds_them(page):
    page.show(1280, "dark", media="")
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
    pdf = page.pdf()
    page.run("looks.open()")
    assert set(re.findall(rb"/MediaBox \[0 0 (\d+)[.\d]* (\d+)", pdf)) == {(b"595", b"841")}
    # Its tags tell what is on the pages: the picture by its name, and the cells of each table, those of closed parts included.
    assert re.search(rb"/S /Figure", pdf) and re.search(rb"/Alt \(Encrypt: done[.]", pdf)
    wanted = page.run("[...document.querySelectorAll('th')].filter((one) => !one.closest('.wide')).length")
    assert len(re.findall(rb"/S /TH\b", pdf)) == wanted


def test_nothing_was_asked_for_and_nothing_went_wrong(page):
    """The last: it counts what all of the others caused."""
    assert page.requests() == [] and page.complaints() == []
