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

find_usable "$@" && exit
for version in "$@"; do
    if "python$version" --version >/dev/null 2>&1; then
        "$(dirname "$0")/apt.sh" "python$version-venv" >&2 && find_usable "$@" && exit
    fi
done
"$(dirname "$0")/apt.sh" python3 python3-venv >&2 && find_usable "$@" && exit
echo "No Python of version $(echo "$@" | sed 's/ / or /g') that can make virtual environments." >&2
exit 1
