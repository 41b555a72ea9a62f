#!/bin/sh
# Inside the emulated Debian: install, run the demo and a core of the tests. The last line is JSON.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
arch=$1
cd /proof
if [ "$arch" = arm64 ]; then
    (cd limpet-*-offline && ./install.sh --with camera)
    python=/opt/limpet/bin/python
else
    python=/usr/bin/python3
    # What the packages' own scripts, which did not run here, would have linked.
    export LD_LIBRARY_PATH=/usr/lib/arm-linux-gnueabihf/blas:/usr/lib/arm-linux-gnueabihf/lapack
fi
megabytes=$(($(du -sk /opt/limpet | cut -f1) / 1024))
mkdir -p /proof/more
for wheel in /proof/wheels/*.whl; do $python -m zipfile -e "$wheel" /proof/more; done
export PYTHONPATH=/proof/more
[ "$arch" = arm64 ] || export PYTHONPATH=/opt/limpet:/proof/more
limpet="$python -m limpet"
version=$($limpet --version)
$limpet inspect "$($python -c 'import limpet; print(limpet.__path__[0])')/demo_data/shuttle-1.limpet" >/dev/null
sandbox=$($python -c '
from limpet.isolation import permissions, sandbox
print(" ".join(sandbox.enter(permissions.Permissions())))' 2>/proof/sandbox.txt || true)
demo=$($limpet demo --json --broker "$2" 2>/proof/demo.txt | tail -n 1) || true
[ -n "$demo" ] || { tail -n 20 /proof/demo.txt >&2; demo=null; }
tests="tests/inference/test_window.py tests/test_histogram.py tests/wire/test_channel.py tests/test_config.py tests/decoders
    tests/sources/test_framing_cobs.py tests/sources/test_framing_csv.py tests/sources/test_serial.py
    tests/runtimes/test_tflite.py tests/runtimes/test_tensors.py tests/delivery/test_outbox.py"
# armhf has Pillow, and neither PyAV nor soxr: see docs/how-to/install.md.
tests="$tests tests/sources/test_images.py"
[ "$arch" != arm64 ] || tests="$tests tests/sources/test_replay_video.py tests/transforms/test_streaming.py"
# qemu-user has no ioctl for any baud rate. It also doubles the space for control data that recvmsg offers to the
# kernel, cuts what came to the space that the program offered, and sets no MSG_CTRUNC. So one file descriptor too many
# stays open, and its number never reaches the program. Linux itself closes it and sets the flag. With space for none
# there is nothing to double.
without="test_the_line_is_set_as_configured or test_a_custom_baud_rate_is_set
    or (test_more_file_descriptors_than_expected_end_it and not [0])"
# Floats below the normal range are flushed to zero on armhf, with which hypothesis will not make any; and tflite-runtime
# has no XNNPACK for int8 there.
[ "$arch" = arm64 ] || without="$without or test_whatever_the_model_gives_the_output_conforms or test_what_is_encoded_is_read
    or test_floats_are_stored_by_the_definition or test_nan_and_infinity_do_no_harm or test_what_the_cpus_delegate_runs
    or test_any_tables_are_read_or_refused or test_top_k_is_the_sorted_scores or test_the_score_is_the_mean_error
    or test_a_quantile_is_off or test_garbage_gives_boxes_that_are_boxes"
# shellcheck disable=SC2086 # a list of words
$python -m pytest -q -p no:cacheprovider -o timeout=600 -k "not ($(echo $without))" $tests >/proof/tests.txt 2>&1 || true
tail -n 15 /proof/tests.txt >&2
cat /proof/sandbox.txt >&2
summary=$(tail -n 1 /proof/tests.txt)
printf '{"machine": "%s", "python": "%s", "version": "%s", "installed_mb": %s, "sandbox": "%s", "demo": %s, "tests": "%s"}\n' \
    "$(uname -m)" "$($python -c 'import platform; print(platform.python_version())')" "$version" "$megabytes" \
    "$sandbox" "$demo" "$summary"
