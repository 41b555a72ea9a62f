#!/bin/sh
# Print the first Python of the versions named that can make virtual environments, as: tools/python.sh 3.11 3.10
# Debian ships the part that makes them apart from Python: it is installed if it lacks.
set -eu

usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

find_usable() {
    for version in "$@"; do
        for command in "python$version" "/usr/bin/python$version" python3; do
            if usable "$command" "$version"; then
                "$command" -c 'import sys; print(sys.executable)'
                return
            fi
        done
    done
    return 1
}

# Of the first version that is there, only the part may be missing; if none is, Debian's own will do.
missing="python3 python3-venv"
for version in "$@"; do
    if "python$version" --version >/dev/null 2>&1; then
        missing="python$version-venv"
        break
    fi
done
# shellcheck disable=SC2086 # a list of words
find_usable "$@" || { "$(dirname "$0")/apt.sh" $missing >&2 && find_usable "$@"; } && exit
echo "No Python of version $(echo "$@" | sed 's/ / or /g') that can make virtual environments." >&2
exit 1
