#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Build coco-peer from the sources of a guest of Confidential Containers, outside of this repository.
#
#     sh tools/images/coco_peer/build.sh GUEST_COMPONENTS FOLDER     # a clone of the repository; prints the program's path
#     ATTESTED_COCO_PEER=FOLDER/target/release/coco-peer make test STAGES=unit
#
# Tried with the sources of 2026-08-20 (after v0.21.0) and Rust 1.95, about two minutes.
set -eu
sources=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder/coco-peer/src"
git -C "$sources" archive HEAD Cargo.toml ocicrypt-rs attestation-agent/deps | tar -x -C "$folder"
cp "$here/main.rs" "$folder/coco-peer/src/main.rs"
cd "$folder"
# The whole workspace would want everything that an attester needs. Optional parts that lie elsewhere are left out; no source file is touched.
python3 - <<'PYTHON'
import re
from pathlib import Path

workspace = Path("Cargo.toml")
members = '["ocicrypt-rs", "attestation-agent/deps/crypto", "attestation-agent/deps/resource_uri", "coco-peer"]'
workspace.write_text(re.sub(r"members = \[.*?\]", f"members = {members}", workspace.read_text(), count=1, flags=re.S))
ocicrypt = Path("ocicrypt-rs/Cargo.toml")
text = re.sub(r"(?m)^(kbc|protos) = .*\n", "", ocicrypt.read_text())
text = re.sub(r'(?m)^ +"(kbc\?|protos)/.*\n', "", text)
ocicrypt.write_text(re.sub(r"(?ms)^# Use KBC to request KEK.*", "", text))
PYTHON
cat > coco-peer/Cargo.toml <<'TOML'
[package]
name = "coco-peer"
version = "0.1.0"
edition = "2021"

[dependencies]
anyhow = "1"
base64.workspace = true
crypto = { path = "../attestation-agent/deps/crypto" }
ocicrypt-rs = { path = "../ocicrypt-rs", default-features = false, features = ["block-cipher-ring", "async-io"] }
resource_uri.workspace = true
serde_json = "1"
tokio = { version = "1", features = ["fs", "io-util", "macros", "rt"] }
TOML
cargo build --quiet --release -p coco-peer
echo "$PWD/target/release/coco-peer"
