#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Build coco-peer and coco-policy from the sources of a guest of Confidential Containers, outside of this repository.
#
#     sh tools/images/coco_peer/build.sh GUEST_COMPONENTS FOLDER     # a clone of the repository; prints the path of coco-peer, beside which the other lies
#     ATTESTED_COCO_PEER=FOLDER/target/release/coco-peer make test STAGES=unit
#
# Tried with the sources of 2026-08-20 (after v0.21.0) and Rust 1.95, some minutes.
set -eu
sources=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder/coco-peer/src" "$folder/coco-policy/src" "$folder/oci-client/src"
git -C "$sources" archive HEAD Cargo.toml ocicrypt-rs attestation-agent/deps image-rs/src/signature | tar -x -C "$folder"
cp "$here/main.rs" "$folder/coco-peer/src/main.rs"
cp "$here/policy.rs" "$folder/coco-policy/src/main.rs"
cp -R "$folder/image-rs/src/signature" "$folder/coco-policy/src/"
# Names of images come to image-rs through oci-client, which has them from oci-spec.
echo 'pub use oci_spec::distribution::Reference;' > "$folder/oci-client/src/lib.rs"
cd "$folder"
# The whole workspace would want everything that an attester needs. Optional parts that lie elsewhere are left out; no source file is touched.
python3 - <<'PYTHON'
import re
from pathlib import Path

workspace = Path("Cargo.toml")
members = '["ocicrypt-rs", "attestation-agent/deps/crypto", "attestation-agent/deps/resource_uri", "coco-peer", "coco-policy", "oci-client"]'
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
cat > coco-policy/Cargo.toml <<'TOML'
[package]
name = "coco-policy"
version = "0.1.0"
edition = "2021"

[dependencies]
anyhow = "1"
hex.workspace = true
oci-client = { path = "../oci-client" }
serde.workspace = true
serde_json = "1"
strum.workspace = true
strum_macros = "0.28"
TOML
cat > oci-client/Cargo.toml <<'TOML'
[package]
name = "oci-client"
version = "0.1.0"
edition = "2021"

[dependencies]
oci-spec = { version = "0.8", default-features = false, features = ["distribution"] }
TOML
cargo build --quiet --release -p coco-peer -p coco-policy
echo "$PWD/target/release/coco-peer"
