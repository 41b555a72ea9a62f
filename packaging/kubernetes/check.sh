#!/bin/sh
# Hold the manifest against the schemas of Kubernetes, which the tool brings along; and see that it would notice.
set -eu
cd "$(dirname "$0")/../.."
venv=build/kubernetes-venv
if [ ! -e $venv/.installed ]; then
    python3=$(tools/python.sh 3.11 3.12 3.13)
    "$python3" -m venv $venv
    $venv/bin/pip install --quiet kubernetes-validate==1.37.0
    touch $venv/.installed
fi
manifest=packaging/kubernetes/daemonset.yaml
$venv/bin/kubernetes-validate --strict $manifest >/dev/null
wrong=build/daemonset-wrong.yaml
sed 's/nodeSelector:/nodeSelectors:/' $manifest >$wrong
if $venv/bin/kubernetes-validate --strict $wrong >/dev/null 2>&1; then
    echo "packaging/kubernetes/check.sh: a misspelt key was not noticed" >&2
    exit 1
fi
echo "$manifest: valid"
