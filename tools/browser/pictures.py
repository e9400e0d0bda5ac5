# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the pictures of the documentation: pictures.py DEST [REPORT.json]

Of the made-up fleet: fleet-light.png, fleet-dark.png, forecast.png, drift.png and workloads.png. With the document that `make demo` leaves
(.cache/demo/report/report.json) also report.png, and thread.png, its top. The role writes the pages, headless Chromium shows them.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import chromium
import example_fleet
from render import render

WIDTH = 1160
LIMIT = 150_000
# The browser reads the picture: its pixels as numbers of the colours that occur most.
COLOURS = """async (url) => {
  const image = new Image(); image.src = url; await image.decode();
  const { width, height } = image, pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.drawImage(image, 0, 0);
  const pixels = new Uint32Array(pen.getImageData(0, 0, width, height).data.buffer), counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
  const parts = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const kept = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([pixel]) => parts(pixel)), index = new Map();
  for (const pixel of counts.keys()) {
    const mine = parts(pixel), far = kept.map((one) => one.reduce((sum, value, i) => sum + (value - mine[i]) ** 2, 0));
    index.set(pixel, far.indexOf(Math.min(...far)));
  }
  let text = "";
  for (const pixel of pixels) text += String.fromCharCode(index.get(pixel));
  return { width, height, colours: kept.flat(), indices: btoa(text) };
}"""
# Pictures of the fleet: sections from, to, and the colours.
FLEET = {
    "fleet-light": ("header", "#fleet", "light"), "fleet-dark": ("header", "#fleet", "dark"), "forecast": ("#outlook", "#outlook", "light"),
    "drift": ("#history", "#history", "dark"), "workloads": ("#states", "#workloads", "light"),
}  # fmt: skip


def main() -> None:
    target, *documents = (Path(name) for name in sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory, chromium.browser(chromium.find(os.environ.get("ATTESTED_BROWSER", ""))) as browser:
        page = chromium.Page(browser, render(example_fleet.variables(), Path(directory)).as_uri())
        for name, (first, last, scheme) in FLEET.items():
            page.show(WIDTH, scheme)
            keep(browser, target / f"{name}.png", page.picture(between(page, first, last)))
        for document in documents:
            page = chromium.Page(browser, render(of_document(document), Path(directory)).as_uri())
            page.show(WIDTH)
            keep(browser, target / "report.png", page.picture(between(page, "header", "#runs")))
            keep(browser, target / "thread.png", page.picture(between(page, "header", "#thread")))


def of_document(path: Path) -> dict[str, Any]:
    """The role's variables from the document that it wrote: what is shown again is what was found."""
    document = json.loads(path.read_text(encoding="utf-8"))
    runs = [{name: value for name, value in run.items() if value is not None} for run in document["runs"]]
    return {"report_title": document["title"], "report_runs": [{**run, "ok": run["outcome"] == "accepted"} for run in runs]}


def between(page: chromium.Page, first: str, last: str) -> dict[str, float]:
    """From the top of one part of the page to the end of another."""
    box = "(document.querySelector('%s').closest('section, header').getBoundingClientRect())"
    top, bottom = page.run(f"{box % first}.top + scrollY"), page.run(f"{box % last}.bottom + scrollY")
    start = max(0, round(top) - 18)
    return {"x": 0, "y": start, "width": WIDTH, "height": round(bottom) + 18 - start}


def keep(browser: chromium.Browser, path: Path, png: bytes) -> None:
    small = palette(browser, png)
    path.write_bytes(small)
    if len(small) > LIMIT:
        raise SystemExit(f"{path} has {len(small)} bytes, {LIMIT} are allowed: show less of the page")
    print(f"{path}: {len(small)} bytes")


def palette(browser: chromium.Browser, png: bytes) -> bytes:
    """The same picture with at most 256 colours, those that occur most. Text in few colours loses next to nothing, and two thirds of the bytes go."""
    page = chromium.Page(browser, "data:text/html,<title>colours</title>")
    found = page.run(f"({COLOURS})('data:image/png;base64,{base64.b64encode(png).decode()}')")
    width, height, indices = found["width"], found["height"], base64.b64decode(found["indices"])
    rows = b"".join(b"\0" + indices[row * width : (row + 1) * width] for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"PLTE", bytes(found["colours"])), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)


if __name__ == "__main__":
    main()
