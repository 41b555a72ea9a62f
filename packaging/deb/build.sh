#!/bin/sh
# Build dist/limpet_VERSION_ARCH.deb for Debian 12, with its own virtual environment in /opt/limpet:
#     packaging/deb/build.sh amd64|arm64 [REVISION]
# Nothing of ARCH is executed, so either architecture builds on any machine with Python 3.11 and dpkg-deb.
set -eu
cd "$(dirname "$0")/../.."
arch=$1
revision=${2:-1}
here=packaging/deb
wheels=build/wheelhouse-$arch
[ -d "$wheels" ] || packaging/wheelhouse.sh "$arch"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' agent/limpet/__init__.py)-$revision
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
root=build/deb-$arch
site=opt/limpet/lib/python3.11/site-packages
rm -rf "$root"
mkdir -p "$root/DEBIAN" "$root/opt/limpet/bin" "$root/$site" "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib/systemd/system" \
    "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/usr/lib/modules-load.d" "$root/usr/share/limpet" \
    "$root/usr/share/doc/limpet"

# A wheel is a zip of what goes into site-packages, and these have no other parts that matter here.
for wheel in "$wheels"/*.whl; do
    "$(tools/python.sh 3.11)" -m zipfile -e "$wheel" "$root/$site"
done
rm -rf "$root/$site"/*.data "$root/$site"/numpy/*/tests "$root/$site"/numpy/tests "$root/$site"/numpy/f2py
"$(tools/python.sh 3.11)" -m compileall -q --invalidation-mode checked-hash -s "$root" -p / "$root/$site" || true

ln -s /usr/bin/python3.11 "$root/opt/limpet/bin/python3"
ln -s python3 "$root/opt/limpet/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n' >"$root/opt/limpet/pyvenv.cfg"
printf '#!/opt/limpet/bin/python3\nimport sys\n\nfrom limpet.cli import main\n\nsys.exit(main())\n' >"$root/opt/limpet/bin/limpet"
chmod 755 "$root/opt/limpet/bin/limpet"
ln -s /opt/limpet/bin/limpet "$root/usr/bin/limpet"
install -m 755 $here/limpet-factory-reset "$root/usr/sbin/"

install -m 644 systemd/*.service systemd/*.timer systemd/*.slice "$root/usr/lib/systemd/system/"
install -m 644 systemd/limpet.sysusers "$root/usr/lib/sysusers.d/limpet.conf"
install -m 644 systemd/limpet.tmpfiles "$root/usr/lib/tmpfiles.d/limpet.conf"
install -m 644 systemd/limpet.modules-load "$root/usr/lib/modules-load.d/limpet.conf"
cp -r systemd/drop-ins firmware-configs "$root/usr/share/limpet/"
install -m 644 README.md CHANGELOG.md NOTICE "$root/usr/share/doc/limpet/"
install -m 644 LICENSE "$root/usr/share/doc/limpet/copyright"
cp -r docs "$root/usr/share/doc/limpet/"
ln -s ../../limpet/firmware-configs "$root/usr/share/doc/limpet/firmware-configs"
.venv/bin/python tools/share.py "$root/usr/share" limpet

size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" $here/control >"$root/DEBIAN/control"
install -m 755 $here/postinst $here/prerm $here/postrm "$root/DEBIAN/"
chmod -R u=rwX,go=rX "$root"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p dist
dpkg-deb --root-owner-group -Zzstd --build "$root" "dist/limpet_${version}_$arch.deb" >/dev/null
echo "dist/limpet_${version}_$arch.deb: $((size / 1024)) MB installed"
