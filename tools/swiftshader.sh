#!/bin/sh
# Put SwiftShader, a Vulkan driver on the CPU, and a Vulkan loader into a folder, out of Debian's chromium-common:
# with them LiteRT's GPU accelerator runs on a machine without a GPU. Nothing is installed in the system.
set -eu
into=$1
new=$into.new
rm -rf "$new"
mkdir -p "$new"
trap 'rm -rf "$new"' EXIT
fetch() { (cd "$new" && apt-get download -q chromium-common) >"$new/log" 2>&1; }
if ! fetch && ! { apt-get update -q >"$new/log" 2>&1 && fetch; }; then
    tail -n 5 "$new/log" >&2
    echo "apt-get could not download chromium-common; it may need, as root: apt-get update" >&2
    exit 1
fi
dpkg-deb --extract "$new"/*.deb "$new/root"
mkdir -p "$into"
for name in libvk_swiftshader.so vk_swiftshader_icd.json libvulkan.so.1; do
    mv "$new/root/usr/lib/chromium/$name" "$into"
done
