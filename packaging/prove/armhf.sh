#!/bin/sh
# Put Limpet on tflite-runtime into a Debian for 32-bit Arm: packaging/prove/armhf.sh ROOT SCRATCH
# numpy, pyserial and their like have no wheel there and are Debian's. msgspec is neither: its one C file is compiled.
set -eu
cd "$(dirname "$0")/../.."
root=$1
scratch=$2
python=.venv/bin/python
tools/need.sh arm-linux-gnueabihf-gcc=gcc-arm-linux-gnueabihf /usr/arm-linux-gnueabihf/include/stdio.h=libc6-dev-armhf-cross
site=$root/opt/limpet
mkdir -p "$site" "$scratch/lock"

# The lock's versions, without its hashes: pip takes no requirement of another architecture from a locked file.
locked() { sed -n "s/^\($1==[^ ]*\).*/\1/p" requirements/core.txt | head -n 1; }
$python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 \
    --abi none --platform manylinux2014_armv7l --platform manylinux_2_34_armv7l --platform linux_armv7l \
    --dest "$scratch/lock" "$(locked tflite-runtime)" "$(locked paho-mqtt)" "$(locked typing-extensions)" \
    "$(locked tomli-w)" "$(locked shtab)" cobs==1.2.0
ls dist/limpet-*.whl >/dev/null 2>&1 || packaging/wheelhouse.sh amd64
for wheel in "$scratch"/lock/*.whl dist/limpet-*.whl; do $python -m zipfile -e "$wheel" "$site"; done

$python -m pip download --quiet --no-deps --no-binary=:all: --dest "$scratch/lock" "$(locked msgspec)"
tar -C "$scratch/lock" -xzf "$scratch"/lock/msgspec-*.tar.gz
source=$(echo "$scratch"/lock/msgspec-*/src/msgspec)
cp -r "$source" "$site/"
arm-linux-gnueabihf-gcc -O2 -shared -fPIC -w -I "$root/usr/include/python3.11" -I "$root/usr/include" \
    "$source/_core.c" -o "$site/msgspec/_core.cpython-311-arm-linux-gnueabihf.so"
