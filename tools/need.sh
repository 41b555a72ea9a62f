#!/bin/sh
# See to it that programs are there, as: tools/need.sh mosquitto=mosquitto /usr/include/stdio.h=libc6-dev
# Before each = stands a command or a file, after it the Debian package that has it.
set -eu
missing=
for pair in "$@"; do
    what=${pair%%=*}
    [ -e "$what" ] || command -v "$what" >/dev/null || missing="$missing ${pair#*=}"
done
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || "$(dirname "$0")/apt.sh" $missing
