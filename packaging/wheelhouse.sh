#!/bin/sh
# Gather in build/wheelhouse-ARCH every wheel that Limpet needs on Debian 12 (Python 3.11):
#     packaging/wheelhouse.sh amd64|arm64
# Exact versions with hashes, of requirements/core.txt. 32-bit Arm lacks wheels: see docs/how-to/install.md.
# Each folder in it is an addition that not every device wants, with requirements of its own:
#     camera    PyAV, with FFmpeg: 104 MB installed, and parts of it are under the GPL
#     grpc      gRPC for the local API: 18 MB installed
#     starter   models to start with, if dist/ has their wheel: make starter
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
case $1 in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "packaging/wheelhouse.sh: amd64 or arm64, not '$1'" >&2; exit 2 ;;
esac
wheels=build/wheelhouse-$1
platforms="--platform manylinux2014_$machine --platform linux_$machine"
for glibc in 5 12 17 24 26 27 28 31 34; do platforms="$platforms --platform manylinux_2_${glibc}_$machine"; done
rm -rf "$wheels" dist/limpet-*.whl
mkdir -p "$wheels/camera" "$wheels/grpc"
awk '/^[a-z]/ {skip = /^(cobs|av|grpcio)==/} !skip' requirements/core.txt >"$wheels/requirements.txt"
cat packaging/instead.txt >>"$wheels/requirements.txt"
awk '/^[a-z]/ {take = /^av==/} take' requirements/core.txt >"$wheels/camera/requirements.txt"
awk '/^[a-z]/ {take = /^grpcio==/} take' requirements/core.txt >"$wheels/grpc/requirements.txt"
for folder in "$wheels" "$wheels/camera" "$wheels/grpc"; do
    # shellcheck disable=SC2086 # a list of words
    $python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
        --abi cp311 --abi abi3 --abi none $platforms --require-hashes -r "$folder/requirements.txt" --dest "$folder"
done
for wheel in dist/limpet_starter-*.whl; do
    [ -e "$wheel" ] || continue
    mkdir -p "$wheels/starter"
    cp "$wheel" "$wheels/starter/"
    version=$(basename "$wheel" | cut -d - -f 2)
    echo "limpet-starter==$version --hash=sha256:$(sha256sum "$wheel" | cut -d ' ' -f 1)" >"$wheels/starter/requirements.txt"
done
.venv/bin/uv build --quiet --build-constraints requirements/build.txt --require-hashes --out-dir dist
cp dist/limpet-*.whl "$wheels"
