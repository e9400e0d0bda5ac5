# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever runs a machine can do with its disk: copy it while the machine runs, look through the copy, and put it back.

    python host_disk.py copy --lab LAB NAME COPY                 # QEMU writes a copy of the disk as the machine sees it at this moment
    python host_disk.py search COPY --plain DIR --control FILE   # is anything of these files on it? The control must be found
    python host_disk.py search COPY --key KEK MANIFEST           # and the data key, in any of its spellings?
    python host_disk.py back --lab LAB NAME COPY                 # the machine loses its power, and starts from the copy

Prints JSON. Exit status 0 where nothing was found of what must not be there, and each control was.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path += [str(REPO / "tools" / "vm"), str(REPO / ".cache" / "collections")]

import lab as machines  # noqa: E402  # found by the paths above
import numpy  # noqa: E402

from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest  # noqa: E402
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.plan import unwrap_dek  # noqa: E402

SECTOR = 512
WORD, MARK = 8, 64
TABLE_BITS = 24
WINDOW = 64 << 20
SECONDS = 900


def sectors(path: Path) -> Iterator[bytes]:
    """Those of a file that are not of a few bytes again and again: such lie on every disk."""
    with path.open("rb") as stream:
        while len(sector := stream.read(SECTOR)) == SECTOR:
            if len(set(sector)) > 32:
                yield sector


def spellings(key: bytes) -> list[bytes]:
    text = base64.b64encode(key).rstrip(b"=")
    return [key, key.hex().encode(), key.hex().upper().encode(), text, text.replace(b"+", b"-").replace(b"/", b"_")]


class Marks:
    """Eight telling bytes of each sector of some files, and the 56 that follow them, to be found wherever memory had them: what a program reads into memory
    begins at no sector, but at a multiple of eight bytes."""

    def __init__(self, files: dict[str, Path]) -> None:
        self.sought = dict.fromkeys(files, 0)
        self._of: dict[int, list[tuple[str, bytes]]] = {}
        for name, path in files.items():
            for sector in sectors(path):
                place = next((place for place in range(0, SECTOR - MARK + 1, WORD) if len(set(sector[place : place + WORD])) > WORD - 2), None)
                if place is not None:
                    mark = sector[place : place + MARK]
                    self._of.setdefault(int.from_bytes(mark[:WORD], "little"), []).append((name, mark))
                    self.sought[name] += 1
        self._words = numpy.array(sorted(self._of), dtype=numpy.uint64)
        # A disk has hundreds of millions of words: most are told apart by a look into a table.
        self._table = numpy.zeros(1 << TABLE_BITS, dtype=bool)
        self._table[self._slots(self._words)] = True

    @staticmethod
    def _slots(words: numpy.ndarray) -> numpy.ndarray:
        return (words * numpy.uint64(0x9E3779B97F4A7C15)) >> numpy.uint64(64 - TABLE_BITS)

    def count(self, window: bytes, new: int, found: dict[str, int]) -> None:
        """Add the marks that begin in the first ``new`` bytes of ``window``."""
        words = numpy.frombuffer(window, dtype="<u8", count=new // WORD)
        likely = numpy.flatnonzero(self._table[self._slots(words)])
        for index in likely[numpy.isin(words[likely], self._words)]:
            seen = window[index * WORD : index * WORD + MARK]
            for name in {name for name, mark in self._of[int(words[index])] if mark == seen}:
                found[name] += 1


def search(disk: Path, plain: list[Path], controls: list[Path], keys: dict[str, bytes]) -> dict[str, object]:
    """How often a sector of each file is on the disk, and how often each key, anywhere."""
    files = {**{f"plain {path.name}": path for path in plain}, **{f"control {path.name}": path for path in controls}}
    marks = Marks(files)
    if not all(marks.sought.values()):
        raise SystemExit("nothing to look for in " + ", ".join(name for name, count in marks.sought.items() if not count))
    wanted = {name: spellings(key) for name, key in keys.items()}
    found, spelt, last = dict.fromkeys(files, 0), dict.fromkeys(keys, 0), b""
    with disk.open("rb") as stream:
        window = stream.read(WINDOW)
        while window:
            following = stream.read(WINDOW)
            marks.count(window + following[:MARK], len(window), found)
            for key, forms in wanted.items():
                spelt[key] += sum((last + window).count(form) for form in forms)
            last, window = window[-128:], following
    held = not any(found[f"plain {path.name}"] for path in plain) and all(found[f"control {path.name}"] for path in controls) and not any(spelt.values())
    return {"held": held, "bytes": disk.stat().st_size, "sectors": found, "sought": marks.sought, "keys": spelt}


def copy(lab: Path, name: str, target: Path) -> dict[str, object]:
    target.unlink(missing_ok=True)
    begin = time.monotonic()
    machines.monitor(lab, name, f"drive_backup -f virtio0 {target} raw", seconds=SECONDS)
    while "No active jobs" not in machines.monitor(lab, name, "info block-jobs", seconds=SECONDS):
        if time.monotonic() - begin > SECONDS:
            raise machines.LabError("QEMU does not come to the end of the copy")
        time.sleep(1)
    return {"copy": str(target), "bytes": target.stat().st_size, "seconds": round(time.monotonic() - begin, 1)}


def back(lab: Path, name: str, source: Path) -> dict[str, object]:
    machines.cut(lab, name, source)
    return {"put_back": str(source)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("copy", "search", "back"))
    parser.add_argument("--lab", default="lab")
    parser.add_argument("words", nargs="+", metavar="NAME COPY | COPY")
    parser.add_argument("--plain", type=Path, help="a folder whose files must not be found")
    parser.add_argument("--control", type=Path, action="append", default=[], help="a file that must be found")
    parser.add_argument("--key", nargs=2, action="append", default=[], metavar=("KEK", "MANIFEST"))
    options = parser.parse_intermixed_args()
    lab = REPO / ".cache" / "vm" / "labs" / options.lab
    if options.action == "search":
        keys = {}
        for kek, manifest in options.key:
            source = load_kek(kek)
            keys["key-encryption key"] = bytes(source.key)
            keys[f"data key of {Path(manifest).parent.name}"] = bytes(unwrap_dek(Manifest.parse(Path(manifest).read_bytes()).dek, source))
        plain = [path for path in sorted(options.plain.rglob("*")) if path.is_file() and any(True for _sector in sectors(path))] if options.plain else []
        said = search(Path(options.words[0]), plain, options.control, keys)
    else:
        try:
            said = (copy if options.action == "copy" else back)(lab, options.words[0], Path(options.words[1]))
        except machines.LabError as error:
            sys.exit(f"host_disk: {error}")
    print(json.dumps(said))
    return 0 if said.get("held", True) else 1


if __name__ == "__main__":
    sys.exit(main())
