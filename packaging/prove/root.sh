#!/bin/sh
# Make a small Debian in build/prove/root-KIND, once: packaging/prove/root.sh amd64|arm64|armhf|image
# A foreign one is only unpacked, not configured: what runs in it runs by qemu-user. "image" stands in for the image that
# the container file begins with, where no registry is in reach.
set -eu
cd "$(dirname "$0")/../.."
kind=$1
root=build/prove/root-$kind
[ ! -e "$root/.made" ] || exit 0
mirror=$(apt-get indextargets --format '$(REPO_URI) $(SUITE)' | awk '$2 == "bookworm" || $2 == "stable" {print $1; exit}')
arch=$kind
case $kind in
image) arch=$(dpkg --print-architecture) more=python3,python3-pip,libseccomp2 ;;
amd64) more=systemd,systemd-sysv,dbus,udev,python3,libseccomp2,libasound2,mosquitto ;;
arm64) more=python3,libseccomp2,libstdc++6 ;;
armhf) more=python3,libseccomp2,libstdc++6,python3-numpy,python3-serial,python3-paho-mqtt,python3-pil,python3-cffi-backend,libpython3.11-dev ;;
*) echo "packaging/prove/root.sh: amd64, arm64, armhf or image, not '$kind'" >&2; exit 2 ;;
esac
rm -rf "$root"
mkdir -p "$root"
foreign=
[ "$arch" = "$(dpkg --print-architecture)" ] || foreign=--foreign
echo "Making a Debian for $arch in $root"
debootstrap $foreign --variant=minbase --arch="$arch" --include="$more" bookworm "$root" "$mirror" >"$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 1
}
if [ -n "$foreign" ]; then
    for package in "$root"/var/cache/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$root"
    done
fi
if [ "$kind" = image ]; then
    ln -s python3 "$root/usr/bin/python"
    rm "$root/usr/lib/python3.11/EXTERNALLY-MANAGED"
fi
rm -f "$root"/var/cache/apt/archives/*.deb
touch "$root/.made"
