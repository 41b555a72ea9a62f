#!/bin/sh
# Install Debian packages where this user may; say what to run where not.
set -eu
if ! command -v apt-get >/dev/null; then
    echo "Missing: $*. Install what your system calls these Debian packages, then try again." >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "Missing: $*. Run this, then try again:" >&2
    echo "    sudo apt-get update && sudo apt-get install --no-install-recommends $*" >&2
    exit 1
fi
echo "Installing with apt-get: $*"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # empty, or two words
if ! { $as_root apt-get update -q && $as_root apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get could not install: $*" >&2
    exit 1
fi
case " $* " in
    *" openssh-server "*)
        # Only the tests' own sshd needs it. This machine should accept no logins.
        [ ! -d /run/systemd/system ] || $as_root systemctl --quiet disable --now ssh.service ssh.socket
        ;;
esac
