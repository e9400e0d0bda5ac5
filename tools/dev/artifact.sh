#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Build the artifact, install it where nothing else is, and use it there. Usage: artifact.sh TREE WORK
# What counts for a user is the artifact, not the checkout: a file missing from it shows here and nowhere else.
set -eu
tree=$1 work=$2
rm -rf "$work"
mkdir -p "$work/collections"
ansible-galaxy collection build "$tree" --output-path "$work" --force >/dev/null
artifact=$(ls "$work"/attested-ai-*.tar.gz)
echo "$(basename "$artifact"): $(wc -c <"$artifact") bytes, $(tar -tzf "$artifact" | wc -l) entries"
if tar -tzf "$artifact" | grep -E '(^|/)(\.git|\.venv[^/]*|\.cache|__pycache__|\.ci)/'; then
  echo "the artifact holds the files above, which do not belong into it: see build_ignore in galaxy.yml" >&2
  exit 1
fi

cd "$work"
unset ANSIBLE_CONFIG PYTHONPATH
ANSIBLE_COLLECTIONS_PATH=$work/collections
export ANSIBLE_COLLECTIONS_PATH
ansible-galaxy collection install --offline --collections-path "$ANSIBLE_COLLECTIONS_PATH" "$artifact" >/dev/null

documented=0
for type in module filter lookup inventory callback; do
  names=$(ansible-doc --list --type "$type" --json attested.ai | python3 -c 'import json, sys; print(*json.load(sys.stdin))')
  for name in $names; do
    ansible-doc --type "$type" "$name" >/dev/null
    documented=$((documented + 1))
  done
done
echo "ansible-doc shows $documented plugins"
test "$documented" -gt 0

cat >play.yml <<'Y'
- name: The installed collection answers
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Ask for evidence where there is no TEE
      attested.ai.tee_evidence:
        nonce: "{{ 'attested.ai fresh install test 0' | b64encode }}"
        tsm_path: "{{ playbook_dir }}/no-such-tee"
        method: configfs
      register: answer
      ignore_errors: true
    - name: The refusal names what is missing, in one line
      ansible.builtin.assert:
        that:
          - answer is failed
          - "'no-such-tee' in answer.msg"
          - answer.msg is not search('Traceback')
Y
ansible-playbook -i localhost, -c local -e ansible_python_interpreter="$(command -v python3)" play.yml >play.log 2>&1 || { cat play.log; exit 1; }
echo "a playbook with nothing but the artifact works"
