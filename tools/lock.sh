#!/bin/sh
# Write requirements/*.txt: exact versions with hashes, without host names. The agent's are for every Python that
# Limpet supports; the converters' for Python 3.11 on x86-64, which is where TensorFlow, torch and onnx2tf meet.
set -eu
cd "$(dirname "$0")/.."
compile() {
    .venv/bin/uv pip compile --quiet --generate-hashes --constraint requirements/constraints.in \
        --no-emit-index-url --no-emit-find-links --no-header --upgrade "$@"
}
everywhere() { compile --universal --python-version "${target:-3.10}" "$@"; }
workstation() { compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"; }
everywhere pyproject.toml requirements/dev.in --extra demo --extra sound --extra camera --extra audio --extra updates --extra api-grpc --extra otel --extra client --output-file requirements/dev.txt
everywhere pyproject.toml --extra sound --extra watch --extra camera --extra audio --extra updates --extra api-grpc --extra otel --extra client --constraint requirements/dev.txt --output-file requirements/core.txt
everywhere pyproject.toml --extra demo --extra sound --extra camera --extra audio --constraint requirements/dev.txt --output-file requirements/demo.txt
everywhere requirements/build.in --constraint requirements/dev.txt --output-file requirements/build.txt
everywhere requirements/tflite-runtime.in --output-file requirements/tflite-runtime.txt
everywhere requirements/docs.in --output-file requirements/docs.txt
everywhere requirements/npu.in --output-file requirements/npu.txt
everywhere requirements/sparkplug-host.in --output-file requirements/sparkplug-host.txt
target=3.11 everywhere requirements/homeassistant.in --output-file requirements/homeassistant.txt
target=3.11 everywhere requirements/triton.in --output-file requirements/triton.txt
workstation pyproject.toml requirements/truth.in --output-file requirements/truth.txt
target=3.13 everywhere requirements/homeassistant-schema.in --no-deps --output-file requirements/homeassistant-schema.txt
# torch's CPU build is on an index that pip is configured to use and uv is not. pip fetches it for uv.
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$(tools/python.sh 3.11)" -m pip download --quiet --no-deps --dest "$wheels" \
    "$(sed -n 's/^\(torch==.*\)/\1/p' requirements/convert.in)"
workstation requirements/convert.in --find-links "$wheels" --output-file requirements/convert.txt
compile --universal --python-version 3.10 --no-deps requirements/wakeword.in --output-file requirements/wakeword.txt
compile --universal --python-version 3.11 --no-deps requirements/convert-data.in --output-file requirements/convert-data.txt
workstation requirements/mlserver.in --output-file requirements/mlserver.txt
workstation requirements/mediapipe.in --no-deps --output-file requirements/mediapipe.txt
workstation requirements/real-models.in --no-deps --output-file requirements/real-models.txt
workstation pyproject.toml requirements/fuzz.in --constraint requirements/dev.txt --output-file requirements/fuzz.txt
echo onnx2tf==1.29.24 | workstation - --output-file converters/limpet_convert/locks/onnx2tf-1.txt
echo onnx2tf==2.6.9 | compile --python-version 3.12 --python-platform x86_64-manylinux_2_28 - --output-file converters/limpet_convert/locks/onnx2tf-2.txt
