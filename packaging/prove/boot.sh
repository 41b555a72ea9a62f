#!/bin/sh
# Boot a real systemd in a container, install the Debian package there and put it through its life. What came of it is
# one JSON object on the last line. Needs root, systemd-container, a C compiler and the packages in dist/.
#     packaging/prove/boot.sh
set -eu
cd "$(dirname "$0")/../.."
packaging/prove/root.sh amd64
ls dist/limpet_*-1_amd64.deb >/dev/null 2>&1 || packaging/deb/build.sh amd64 1
ls dist/limpet-camera_*-1_amd64.deb >/dev/null 2>&1 || packaging/deb/build.sh amd64 1
ls dist/limpet_*-2_amd64.deb >/dev/null 2>&1 || packaging/deb/build.sh amd64 2
work=$(mktemp -d build/prove/boot.XXXXXX)
work=$(realpath "$work")
mkdir "$work/upper" "$work/work" "$work/merged"
mount -t overlay overlay -o "lowerdir=$(realpath build/prove/root-amd64),upperdir=$work/upper,workdir=$work/work" "$work/merged"
trap 'umount "$work/merged" && rm -rf "$work"' EXIT
proof=$work/merged/proof
mkdir "$proof"
PYTHONPATH=tests .venv/bin/python packaging/prove/eyes.py "$proof"
cp dist/limpet_*_amd64.deb dist/limpet-camera_*-1_amd64.deb packaging/prove/inside.py packaging/prove/sensor.py "$proof"
# A delegate that computes, so that there is an executor.
cc -std=c11 -O2 -fPIC -shared -o "$proof/libboard.so" tests/support/fault_delegate/fault_delegate.c -lm
cp packaging/prove/proof.service "$work/merged/etc/systemd/system/"
mkdir -p "$work/merged/etc/systemd/system/multi-user.target.wants"
ln -s ../proof.service "$work/merged/etc/systemd/system/multi-user.target.wants/proof.service"
# Nothing that is not part of the proof, so that it boots in seconds.
for unit in mosquitto.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer; do
    ln -sf /dev/null "$work/merged/etc/systemd/system/$unit"
done
# nspawn's own filter of system calls is older than Landlock.
timeout 500 systemd-nspawn --quiet --directory "$work/merged" --boot --private-network --register=no --keep-unit \
    --console=pipe --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
    >build/prove/boot.log 2>&1 </dev/null || true
cp "$proof/journal.txt" build/prove/journal.txt 2>/dev/null || true
if [ ! -s "$proof/result.json" ]; then
    tail -n 30 build/prove/boot.log >&2
    echo "packaging/prove/boot.sh: no result; systemd did not boot, or the proof did not end" >&2
    exit 1
fi
cat "$proof/result.json"
