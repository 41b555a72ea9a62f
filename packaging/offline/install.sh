#!/bin/sh
# Install Limpet from this folder, without a network, as root:
#     ./install.sh [--with camera] [--with grpc] [--with starter]
#     ./install.sh --uninstall
# It needs Python 3.11 and a systemd. Where the Debian package can be used, use that.
set -eu
cd "$(dirname "$0")"
prefix=/opt/limpet
units=/etc/systemd/system
share=/usr/share/limpet
pages=/usr/local/share
command=/usr/local/bin/limpet
running=
[ ! -d /run/systemd/system ] || running=yes

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

uninstall() {
    [ -z "$running" ] || systemctl disable --now --quiet limpet.service limpet-housekeeping.timer || true
    [ -z "$running" ] || systemctl stop 'limpet@*.service' 'limpet-housekeeping@*.timer'
    rm -f $units/*.wants/limpet@*.service $units/*.wants/limpet-housekeeping@*.timer
    for unit in systemd/*.service systemd/*.timer systemd/*.slice; do
        rm -f "$units/$(basename "$unit")"
    done
    (cd share && find . -type f) | while read -r file; do rm -f "$pages/$file"; done
    (cd share && find . -mindepth 1 -depth -type d ! -name man) | while read -r folder; do
        rmdir "$pages/$folder" 2>/dev/null || true # others use it too
    done
    rm -rf $prefix $share $command /etc/sysusers.d/limpet.conf /etc/tmpfiles.d/limpet.conf /etc/modules-load.d/limpet.conf
    [ -z "$running" ] || systemctl daemon-reload
    echo "Limpet is gone. /etc/limpet and /var/lib/limpet are left."
}

additions=
action=install
while [ $# -gt 0 ]; do
    case $1 in
    --uninstall) action=uninstall ;;
    --with)
        case ${2-} in
        '' | */* | .*) fail "--with: name one of: $(ls with)" ;;
        esac
        [ -d "with/$2" ] || fail "--with $2: this bundle has: $(ls with)"
        additions="$additions $2"
        shift
        ;;
    *) fail "unknown option '$1'; use --with NAME or --uninstall" ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "run it as root"
if [ $action = uninstall ]; then
    uninstall
    exit
fi
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) arch=$(uname -m) ;;
esac
[ "$arch" = "$(cat arch)" ] || fail "this is the bundle for $(cat arch), and this machine is $arch"
python=$(command -v python3.11) || fail "Python 3.11 is missing; Debian 12 and Raspberry Pi OS 12 have it"
sha256sum --check --quiet SHA256SUMS || fail "the bundle is damaged; copy it again"

rm -rf $prefix
"$python" -m venv --without-pip $prefix
PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export PIP_NO_INDEX PIP_DISABLE_PIP_VERSION_CHECK PIP_ROOT_USER_ACTION
pip() {
    $prefix/bin/python "$(echo wheels/pip-*.whl)/pip" install --quiet --no-cache-dir --find-links "$PWD/wheels" --no-deps "$@"
}
pip --require-hashes -r requirements.txt
pip wheels/limpet-*.whl
for name in $additions; do
    pip --find-links "$PWD/with/$name" --require-hashes -r "with/$name/requirements.txt"
done

mkdir -p "$(dirname $command)"
ln -sf $prefix/bin/limpet $command
install -m 644 systemd/*.service systemd/*.timer systemd/*.slice $units/
mkdir -p $share
cp -r systemd/drop-ins firmware-configs $share/
# Manual pages, and completion for bash, zsh and fish.
(cd share && find . -type f) | while read -r file; do install -D -m 644 "share/$file" "$pages/$file"; done
install -D -m 644 systemd/limpet.sysusers /etc/sysusers.d/limpet.conf
install -D -m 644 systemd/limpet.tmpfiles /etc/tmpfiles.d/limpet.conf
install -D -m 644 systemd/limpet.modules-load /etc/modules-load.d/limpet.conf
if [ -n "$running" ]; then
    systemd-sysusers limpet.conf
    systemd-tmpfiles --create limpet.conf
    systemctl daemon-reload
    systemctl enable --quiet limpet.service
    systemctl enable --quiet --now limpet-housekeeping.timer
    systemctl restart limpet.service || true
fi
echo "$($prefix/bin/limpet --version)${additions:+, with$additions} is in $prefix. Put /etc/limpet/limpet.toml there, then: systemctl start limpet"
