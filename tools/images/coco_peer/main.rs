// SPDX-License-Identifier: GPL-3.0-or-later
//! Opens one layer of an encrypted image as a guest of Confidential Containers does, with its own crates: the packet's key id by `resource_uri`, the packet
//! by `crypto`, the layer by `ocicrypt-rs`. Only the key comes from a file instead of a KBS.
//!
//!     coco-peer KEY DESCRIPTOR.json LAYER OUT
use anyhow::{anyhow, bail, Context, Result};
use base64::{engine::general_purpose::STANDARD, Engine};
use std::{collections::BTreeMap, fs};
use tokio::io::AsyncReadExt;

const PACKET: &str = "org.opencontainers.image.enc.keys.provider.attestation-agent";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().collect();
    let [_, key, descriptor, layer, out] = &names[..] else { bail!("coco-peer KEY DESCRIPTOR.json LAYER OUT") };
    let descriptor: serde_json::Value = serde_json::from_slice(&fs::read(descriptor)?)?;
    let annotations: BTreeMap<String, String> = serde_json::from_value(descriptor["annotations"].clone())?;
    let packet = STANDARD.decode(annotations.get(PACKET).context("no packet")?)?;
    let packet: serde_json::Value = serde_json::from_slice(&packet)?;
    let text = |name: &str| packet[name].as_str().map(str::to_string).with_context(|| format!("{name} is missing"));
    let kid = text("kid")?;
    let resource = resource_uri::ResourceUri::try_from(&kid[..]).map_err(|e| anyhow!("kid: {e:?}"))?;
    let wrap = crypto::WrapType::try_from(&text("wrap_type")?[..]).map_err(|e| anyhow!("wrap_type: {e:?}"))?;
    let options = crypto::decrypt(fs::read(key)?.into(), STANDARD.decode(text("wrapped_data")?)?, STANDARD.decode(text("iv")?)?, wrap)?;
    let source = tokio::fs::File::open(layer).await?;
    let (reader, digest) = ocicrypt_rs::encryption::async_decrypt_layer(source, Some(&annotations), &options)?;
    let mut plain = Vec::new();
    std::pin::pin!(reader).read_to_end(&mut plain).await?;
    fs::write(out, &plain)?;
    println!("{} {}", resource.resource_path(), digest);
    Ok(())
}
