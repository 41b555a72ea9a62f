#!/bin/sh
# Build dist/limpet-VERSION-ARCH-offline.tar.gz: all that an installation without a network needs, Python apart.
#     packaging/offline/build.sh amd64|arm64
set -eu
cd "$(dirname "$0")/../.."
arch=$1
[ -d "build/wheelhouse-$arch" ] || packaging/wheelhouse.sh "$arch"
name=limpet-$(sed -n 's/^__version__ = "\(.*\)"/\1/p' agent/limpet/__init__.py)-$arch-offline
root=build/$name
rm -rf "$root"
mkdir -p "$root" dist
cp -r "build/wheelhouse-$arch" "$root/wheels"
mv "$root/wheels/requirements.txt" "$root/"
mkdir "$root/with" # what install.sh adds with --with NAME
mv "$root"/wheels/*/ "$root/with/"
.venv/bin/python -m pip download --quiet --no-deps --only-binary=:all: --require-hashes -r packaging/offline/pip.txt \
    --dest "$root/wheels"
cp packaging/offline/install.sh "$root/"
cp -r systemd firmware-configs docs clients packaging/observability LICENSE NOTICE "$root/"
.venv/bin/python tools/share.py "$root/share" limpet
mv "$root/share/zsh/vendor-completions" "$root/share/zsh/site-functions"
echo "$arch" >"$root/arch"
(cd "$root" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
    -C build -czf "dist/$name.tar.gz" "$name"
echo "dist/$name.tar.gz: $(($(stat -c %s "dist/$name.tar.gz") / 1000000)) MB"
