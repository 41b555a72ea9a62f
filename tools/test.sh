#!/bin/sh
# Run all tests, in two halves side by side: those that start daemons and mostly wait for them, and the others.
#     tools/test.sh PYTHON PYTHON-WITH-TFLITE-RUNTIME
# The second half writes into build/tests.txt, which is shown at the end.
set -u
python=$1
older=$2
waiting="tests/accel tests/attack tests/daemon tests/delivery tests/demo tests/faults tests/fork"
# What can differ between the two TFLite runtimes, and between numpy 1 and 2.
runtimes="tests/runtimes tests/inference/test_pipeline.py tests/recordings"
for name in detector infer_command learning memory model_versions outside_stages processes recordings refusals swap takeover; do
    runtimes="$runtimes tests/daemon/test_$name.py"
done

# Tests interrupt programs. A shell has what runs beside ignore SIGINT, and so may what started this script.
pytest() {
    of=$1
    shift
    env --default-signal=INT "$of" -m pytest -q "$@"
}

others() {
    # shellcheck disable=SC2086 # each is a word
    pytest "$python" -p no:cacheprovider $(printf -- '--ignore=%s ' $waiting) || return
    if [ -e "$(dirname "$(dirname "$older")")/.installed" ]; then
        pytest "$older" -p no:cacheprovider $runtimes
    fi
}

mkdir -p build
others >build/tests.txt 2>&1 &
beside=$!
# shellcheck disable=SC2086
pytest "$python" $waiting
status=$?
wait "$beside"
others=$?
cat build/tests.txt
[ "$status" -eq 0 ] && [ "$others" -eq 0 ]
