// SPDX-License-Identifier: GPL-3.0-or-later
//! What a guest's image-rs reads out of a policy of images, with its own files: which requirements it finds for an image, and whether signatures of another
//! name would do for it.
//!
//!     coco-policy POLICY.json IMAGE [SIGNED-NAME]
mod signature {
    pub mod image;
    pub mod policy;
}

use anyhow::{bail, Result};
use oci_client::Reference;
use signature::policy::{policy_requirement::PolicyReqType, Policy};

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().collect();
    let [_, policy, image, rest @ ..] = &names[..] else { bail!("coco-policy POLICY.json IMAGE [SIGNED-NAME]") };
    let policy: Policy = serde_json::from_slice(&std::fs::read(policy)?)?;
    let image = signature::image::Image::default_with_reference(Reference::try_from(&image[..])?);
    let requirements = policy.requirements_for_image(&image);
    // As image-rs has it: where nothing is demanded, everything is let in.
    println!("{}", if requirements.is_empty() { "open".to_string() } else { serde_json::to_string(requirements)? });
    for signed in rest {
        for requirement in requirements {
            let identity = match requirement {
                PolicyReqType::SimpleSigning(found) => &found.signed_identity,
                PolicyReqType::Cosign(found) => &found.signed_identity,
                _ => continue,
            };
            let fits = identity.as_ref().is_none_or(|rule| rule.matches_docker_reference(&image.reference, signed).is_ok());
            println!("{signed} {fits}");
        }
    }
    Ok(())
}
