#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The execution environment as far as it goes without a base image: what ansible-builder finds, and the build context. Usage: environment.sh TREE WORK
set -eu
tree=$1 work=$2
rm -rf "$work"
mkdir -p "$work"
# introspect reads installed collections below a path; the tree is one.
ansible-builder introspect --sanitize "${tree%/ansible_collections/*}" >"$work/introspect.yml"
grep -q 'cryptography' "$work/introspect.yml" || { echo "ansible-builder does not find the Python requirement of the collection" >&2; cat "$work/introspect.yml" >&2; exit 1; }
grep -q 'openssh-client' "$work/introspect.yml" || { echo "ansible-builder does not find the system requirement of the collection" >&2; cat "$work/introspect.yml" >&2; exit 1; }
grep -q "helm \[platform:fedora\]" "$work/introspect.yml" || { echo "ansible-builder does not find Helm for an image of Fedora" >&2; cat "$work/introspect.yml" >&2; exit 1; }
ansible-galaxy collection build "$tree" --output-path "$work/build" --force >/dev/null
cp "$tree/execution-environment.yml" "$work"
cd "$work"
ansible-builder create --file execution-environment.yml --context context --output-filename Containerfile
test -s context/Containerfile
# tests/unit/awx/test_environment.py holds that these are the ones that roles call.
for collection in kubernetes.core community.libvirt awx.awx; do
    grep -q "name: $collection\$" context/_build/requirements.yml || { echo "the image would be built without $collection" >&2; exit 1; }
done
ls context/_build/artifact
