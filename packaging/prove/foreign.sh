#!/bin/sh
# Run Limpet on another architecture, emulated by qemu-user in a Debian of it: packaging/prove/foreign.sh arm64|armhf
# Ends with one JSON object that says what ran. It proves that it is correct there, never how fast. Needs root.
set -eu
cd "$(dirname "$0")/../.."
arch=$1
# Separate mounts, so that none is left behind and the machine's /proc stays as it is.
[ -n "${OWN_MOUNTS-}" ] || exec unshare --mount env OWN_MOUNTS=1 "$0" "$arch"
case $arch in
arm64) cpu=aarch64 machine=aarch64 QEMU_CPU=cortex-a72 features='fp asimd evtstrm crc32 cpuid'
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    ;;
armhf) cpu=arm machine=armv7l QEMU_CPU=cortex-a15
    features='half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm'
    magic='\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00'
    ;;
*) echo "packaging/prove/foreign.sh: arm64 or armhf, not '$arch'" >&2; exit 2 ;;
esac
packaging/prove/root.sh "$arch"
python=.venv/bin/python

# The kernel hands this architecture's programs to qemu, as long as the proof lasts.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc none $binfmt
handler=limpet-$arch
[ ! -e $binfmt/$handler ] || echo -1 >$binfmt/$handler
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":$handler:M::$magic:$mask:/usr/bin/qemu-$cpu-static:F" >$binfmt/register

work=$(realpath "$(mktemp -d build/prove/foreign.XXXXXX)")
root=$work/merged
proof=$root/proof
mkdir "$work/upper" "$work/work" "$root"
mount -t overlay overlay -o "lowerdir=$(realpath "build/prove/root-$arch"),upperdir=$work/upper,workdir=$work/work" "$root"
for path in sys dev dev/pts; do mount --bind "/$path" "$root/$path"; done
mount -t proc proc "$root/proc"
# qemu 7.2 shows the host's processor in /proc/cpuinfo, which crashes LiteRT; this is a Raspberry Pi 4's.
for core in 0 1 2 3; do
    printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: %s\nCPU implementer\t: 0x41\n' "$core" "$features"
    printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done >"$work/cpuinfo"
mount --bind "$work/cpuinfo" "$root/proc/cpuinfo"
export QEMU_CPU
finish() {
    kill "$broker" 2>/dev/null || true
    cp "$proof/tests.txt" "build/prove/tests-$arch.txt" 2>/dev/null || true
    umount --recursive "$root"
    echo -1 >$binfmt/$handler
    rm -rf "$work"
}
broker=
trap finish EXIT
echo 'root:x:0:0::/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
mkdir -p "$proof/wheels"
cp packaging/prove/emulated.sh "$proof/"
cp -r tests pyproject.toml docs "$proof/"

# What the tests and the demo need besides, in the versions of the lock.
grep == requirements/dev.txt | sed 's/ *\\$//' >"$proof/constraints.txt"
fetch() {
    platforms=
    for tag in manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28 manylinux_2_31 manylinux_2_34; do
        platforms="$platforms --platform ${tag}_$machine"
    done
    # shellcheck disable=SC2086 # a list of words
    $python -m pip download --quiet --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi abi3 \
        --abi none $platforms --dest "$proof/wheels" "$@"
}
fetch --constraint "$proof/constraints.txt" pytest pytest-timeout rich hypothesis jsonschema flatbuffers
if [ "$arch" = arm64 ]; then
    [ -e dist/limpet-*-arm64-offline.tar.gz ] || packaging/offline/build.sh arm64
    tar -C "$proof" -xzf dist/limpet-*-arm64-offline.tar.gz
else
    packaging/prove/armhf.sh "$root" "$proof"
fi
# Programs under qemu-user share the machine's network: the demo's broker is this machine's own.
port=$($python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n' "$port" >"$work/mosquitto.conf"
mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
broker=$!
env --ignore-environment "PATH=/usr/sbin:/usr/bin" "QEMU_CPU=$QEMU_CPU" chroot "$root" /bin/sh /proof/emulated.sh "$arch" "mqtt://127.0.0.1:$port"
