#!/bin/sh
# Run all tests, in three lanes side by side: two of tests that start daemons and mostly wait for them, and the others.
#     tools/test.sh PYTHON PYTHON-WITH-TFLITE-RUNTIME
# The first lane writes to the terminal. The others write into build/tests-*.txt, which are shown at the end.
set -u
python=$1
older=$2
daemon="tests/daemon"
waiting="tests/accel tests/attack tests/delivery tests/demo tests/faults tests/fork"
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

# shellcheck disable=SC2086 # each is a word
waits() {
    pytest "$python" -p no:cacheprovider $waiting || return
    if [ -e "$(dirname "$(dirname "$older")")/.installed" ]; then
        pytest "$older" -p no:cacheprovider $runtimes
    fi
}

# shellcheck disable=SC2086
others() {
    pytest "$python" -p no:cacheprovider $(printf -- '--ignore=%s ' $daemon $waiting)
}

mkdir -p build
waits >build/tests-waiting.txt 2>&1 &
first=$!
others >build/tests-others.txt 2>&1 &
second=$!
pytest "$python" "$daemon"
status=$?
wait "$first" || status=1
wait "$second" || status=1
cat build/tests-waiting.txt build/tests-others.txt
exit "$status"
