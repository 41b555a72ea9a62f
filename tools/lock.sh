#!/bin/sh
# Write requirements/*.txt: exact versions with hashes, for every Python that Limpet supports, without host names.
set -eu
cd "$(dirname "$0")/.."
compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version "${target:-3.10}" --generate-hashes \
        --constraint requirements/constraints.in --no-emit-index-url --no-emit-find-links --no-header --upgrade "$@"
}
compile pyproject.toml requirements/dev.in --extra demo --output-file requirements/dev.txt
compile pyproject.toml --constraint requirements/dev.txt --output-file requirements/core.txt
compile pyproject.toml --extra demo --constraint requirements/dev.txt --output-file requirements/demo.txt
compile requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt
compile requirements/tflite-runtime.in --output-file requirements/tflite-runtime.txt
compile requirements/npu.in --output-file requirements/npu.txt
compile requirements/sparkplug-host.in --output-file requirements/sparkplug-host.txt
target=3.11 compile requirements/homeassistant.in --output-file requirements/homeassistant.txt
