#!/bin/sh
# Make a small Debian in build/prove/root-ARCH, once: packaging/prove/root.sh amd64|arm64|armhf
# A foreign one is only unpacked, not configured: what runs in it runs by qemu-user.
set -eu
cd "$(dirname "$0")/../.."
arch=$1
root=build/prove/root-$arch
[ ! -e "$root/.made" ] || exit 0
mirror=$(apt-get indextargets --format '$(REPO_URI) $(SUITE)' | awk '$2 == "bookworm" || $2 == "stable" {print $1; exit}')
case $arch in
amd64) more=systemd,systemd-sysv,dbus,udev,python3,libseccomp2,mosquitto ;;
arm64) more=python3,libseccomp2,libstdc++6 ;;
armhf) more=python3,libseccomp2,libstdc++6,python3-numpy,python3-serial,python3-paho-mqtt,python3-cffi-backend,libpython3.11-dev ;;
*) echo "packaging/prove/root.sh: amd64, arm64 or armhf, not '$arch'" >&2; exit 2 ;;
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
rm -f "$root"/var/cache/apt/archives/*.deb
touch "$root/.made"
