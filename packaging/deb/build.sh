#!/bin/sh
# Build dist/limpet_VERSION_ARCH.deb for Debian 12, with its own virtual environment in /opt/limpet:
#     packaging/deb/build.sh amd64|arm64 [REVISION]
# Beside it, limpet-camera, limpet-grpc and limpet-starter add to that environment what not every device wants.
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
rm -rf "$root" "$root"-*
mkdir -p dist

# Put wheels into the site-packages of a package. A wheel is a zip of what goes there; no other part matters here.
unpack() { # ROOT WHEEL...
    to=$1
    shift
    for wheel; do "$(tools/python.sh 3.11)" -m zipfile -e "$wheel" "$to/$site"; done
    rm -rf "$to/$site"/*.data
}

pack() { # ROOT PACKAGE
    "$(tools/python.sh 3.11)" -m compileall -q --invalidation-mode checked-hash -s "$1" -p / "$1/$site" || true
    size=$(du -sk --exclude=DEBIAN "$1" | cut -f1)
    sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" "$here/$2.control" >"$1/DEBIAN/control"
    chmod -R u=rwX,go=rX "$1"
    find "$1" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zzstd --build "$1" "dist/${2}_${version}_$arch.deb" >/dev/null
    echo "dist/${2}_${version}_$arch.deb: $((size / 1024)) MB installed"
}

mkdir -p "$root/DEBIAN" "$root/opt/limpet/bin" "$root/$site" "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib/systemd/system" \
    "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/usr/lib/modules-load.d" "$root/usr/share/limpet" \
    "$root/usr/share/doc/limpet"

unpack "$root" "$wheels"/*.whl
rm -rf "$root/$site"/numpy/*/tests "$root/$site"/numpy/tests "$root/$site"/numpy/f2py
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
cp -r docs clients packaging/observability "$root/usr/share/doc/limpet/"
ln -s ../../limpet/firmware-configs "$root/usr/share/doc/limpet/firmware-configs"
.venv/bin/python tools/share.py "$root/usr/share" limpet

install -m 755 $here/postinst $here/prerm $here/postrm "$root/DEBIAN/"
pack "$root" limpet

for folder in "$wheels"/*/; do
    name=limpet-$(basename "$folder")
    more=$root-$(basename "$folder")
    mkdir -p "$more/DEBIAN" "$more/$site" "$more/usr/share/doc/$name"
    unpack "$more" "$folder"*.whl
    install -m 644 "$here/$name.copyright" "$more/usr/share/doc/$name/copyright"
    [ ! -e "$here/$name.postinst" ] || install -m 755 "$here/$name.postinst" "$more/DEBIAN/postinst"
    pack "$more" "$name"
done
