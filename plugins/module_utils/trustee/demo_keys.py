# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys whose private halves anybody can read, or may have: those in the sources of Trustee 0.21.0 and guest-components 0.21.0.

SHA-256 of SubjectPublicKeyInfo, and where each is. A program and no JSON file, for a module carries programs only to its machine.
"""

from __future__ import annotations

KNOWN = {
    "ee010e42c850c4c067ece07cf89cf9ec87be4fa0e6ffc7054af8ef20a6ba1521": "trustee attestation-service/tests/fixtures/jwk/signing-key.pem",
    "bc79bc8bbc643d0cb08945bb5c62f64d61f66f51ddb4eb707e8d6bce92605fd8": "trustee kbs/test_data/jwk/scenario01-trust.pem",
    "35419124fb12380a8c5f00212796bfd1456682e1bacedf096dc27983815b68ff": "trustee kbs/test_data/jwk/scenario02-trust.pem",
    "1d93e6fe111513ae6dc9e22b084a63cab4780b0f158481a7b14cee62f62b49df": "trustee kbs/test_data/jwk/scenario03-trust.pem",
    "04e90f72834a1601e230c77e4e0410d8ab13cfdf058b210b211e8970c884e29e": "trustee kbs/test_data/jwk/scenario04-trust.pem",
    "7787c545cd0961c0387116807b5cc8040568bf51b00406bb85c2c06d1212edf7": "trustee kbs/test_data/jwk/scenario05-trust.pem",
    "292f9f15eed75aa1bf2f115160fccfbc824beb4f2ab7d6077d9a20766237aae4": "trustee kbs/test_data/jwk/scenario06-trust.pem",
    "5bb123717841fec743aeb19652ac8360db99dbc320cd07d600e6623f20f97d1e": "trustee kbs/test_data/jwk/scenario07-trust.pem",
    "58fba7b369947e6970b53ba254f7dc987b73e7afcf1565b9b904519ce9db6406": "trustee kbs/test/data/test_cert_chain.pem",
    "8956602d1d0639f010973c997f2b3640148fe7ec0d3ff28fa0de7557c5fbdec0": "trustee kbs/test/data/test_cert_chain.pem",
    "f56ef17b700f6b86757331c8c33772b73281ccc683a3d0c6718f2261483b853f": "guest-components ocicrypt-rs/data/certificate_key.pem",
    "fdbd8328078f970c1500a2da20da11ce30de0751638a449de683e58c15446fc4": "guest-components ocicrypt-rs/data/private_key8.pem",
    "6bb66e6e0ea19834f4af79cd532648f19628c8e11883a4510e6f97665a02df91": "guest-components image-rs/test_data/private_key_for_tests.pem",
    "bc37f80d78c8e82fa6d313a1af457943f32ea9f15a2dd634e20992339a2fbe23": "guest-components image-rs/test_data/signature/cosign/nv.pub",
    "374445d110d4b769fa3be7dfcf4afe8ff5512645f020e73495a1da791d72dd17": "guest-components image-rs/test_data/signature/cosign/cosign1.pub",
    "71dcb550e5cbd77eb2a121f84bdee2ea3f8459e7060a173666ba31fbf27cfb4f": "guest-components image-rs/test_data/signature/cosign/cosign2.pub",
    "a6dfd90cb7c921fb23bb73e9d9a50035197e0702afb63731a99df9c1cdd3c179": "guest-components image-rs/test_data/signature/cosign/cosign3.pub",
    "61cb631423ad65beac905a4bb67a679593d44cec1f2f3905632a5645df9b37a5": "guest-components attestation-agent/kbc/src/sample_kbc/cosign.pub",
    "e14b90b5e8e220cc53a3afa356e85d7bc37f36b5eff86754bee28ab5080704c6": "guest-components confidential-data-hub/example.config.toml",
    "ba4c27d38a7161f407a6f5915fb142710dd953eb1bb54cd2ca1366824037f2cd": "guest-components attestation-agent/config.example.toml",
    "7783ce794a6c1d872f8b1a7035f9c5fc12c7ceee598c4f36e4936b02b70bc58d": "guest-components attestation-agent/kbs_protocol/src/builder.rs",
}
# What generated demo keys have in the subject or issuer of their certificates: the compose setup of Trustee.
SUBJECTS = ("KBS-compose-root", "CN=CoCo-AS,OU=CoCo,O=CNCF")
# Issuers of admin tokens of the compose setup, which live for ten years, and of the Helm chart's demo.
ISSUERS = ("TrusteeInDocker", "TrusteeInHelm")
