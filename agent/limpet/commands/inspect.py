"""``limpet inspect``: what a model is, what it wants, and what runs it here."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.config import Device
from limpet.errors import ModelError
from limpet.inference import admission, trial
from limpet.inference.input_fit import open_transforms, resized
from limpet.inference.single import plan_model
from limpet.inference.window import Windower
from limpet.models import bundle as bundles
from limpet.models import model_kind, store
from limpet.models.tflite import model_file
from limpet.runtimes import tflite
from limpet.untrusted import printable

if TYPE_CHECKING:
    import argparse

    from limpet.contracts.model_facts import ModelFacts
    from limpet.models.bundle import Bundle
    from limpet.models.manifest import Manifest
    from limpet.models.tflite.coverage import Coverage

HELP = "show a model: inputs, outputs, quantization, ops, labels, metadata, and what its delegates cover here"
_LABELS_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", help="a bundle (.limpet), a bare .tflite, or a name in this device's store")
    parser.add_argument(
        "--delegate", action="append", default=[], help="run it on this delegate too, and prove where each op runs"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(arguments: argparse.Namespace) -> int:
    """Print what is known; 1 where the runtime here refuses the model."""
    named = Path(arguments.model)
    path = named if named.exists() else store.find(arguments.model, Path(), Device(id="here").state / "models")
    kind = model_kind.of(path)
    if kind not in {model_kind.TFLITE, model_kind.BUNDLE}:
        raise ModelError(model_kind.refused(path, kind))
    with tempfile.TemporaryDirectory() as cache:
        path = model_kind.by_content(path, kind, Path(cache))
        facts = inspect(path, bundles.load(path, Path(cache)))
        for name in arguments.delegate:
            facts["placements"][name] = _placement(path, name, Path(cache))
    print(msgspec.json.encode(facts).decode() if arguments.json else printable("\n".join(_lines(facts))))
    refused = any(isinstance(placed, str) for placed in facts["placements"].values())
    return 1 if facts["refused"] or refused else 0


def inspect(path: Path, bundle: Bundle) -> dict[str, Any]:
    """Collect what ``--json`` prints. ``ModelError`` where the model file is damaged."""
    content = bundle.model.read_bytes()
    file = model_file.read(bundle.model)
    manifest = bundle.manifest
    described = tflite.describe(bundle.model, tflite.Config())
    facts: dict[str, Any] = {
        "file": str(path),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "min_runtime_version": file.min_runtime_version,
        "runtime": f"{tflite.package} {tflite.version}",
        "refused": "",
        "inputs": msgspec.to_builtins(manifest.inputs),
        "outputs": msgspec.to_builtins(manifest.outputs),
        "signatures": msgspec.to_builtins(file.signatures),
        "ops": {},
        "delegates": {},
        "placements": {},
        "state": _state(manifest, described),
        "state_pairs": dict(described.pairs),
        "labels": bundle.labels,
        "problem": bundle.problem,
        "golden": bundle.golden is not None,
        "signed": bundle.signature is not None,
        "metadata": msgspec.to_builtins(file.description),
        "manifest": msgspec.to_builtins(manifest),
    }
    try:
        placement = trial.coverage(bundle.model)
    except ModelError as error:
        facts["refused"] = str(error)
        facts["ops"] = dict(Counter(file.ops))
    else:
        facts["ops"] = dict(Counter(placement.ops))
        facts["delegates"] = {"cpu": _covered(placement)}
    return facts


def _state(manifest: Manifest, facts: ModelFacts) -> str:
    """Say what a model keeps from run to run, and how a pipeline treats that; empty if it keeps nothing."""
    if not facts.state:
        return ""
    by_default = manifest.stateful is None
    lasting = facts.stateful if by_default else manifest.stateful
    if lasting is None:
        return f"{facts.state}; its file does not show for how long: a pipeline needs the key stateful"
    how = "kept from window to window, cleared after a gap" if lasting else "cleared before each window"
    return f"{facts.state}: {how}, {'by default' if by_default else 'as its manifest says'}"


def _placement(path: Path, name: str, cache: Path) -> Any:
    """Return the proof of a delegate's placement, or why it is refused."""
    plan = plan_model(path, None, [name], cache)
    shape, _ = open_transforms(plan.transforms, Windower(plan.window, plan.spec))
    try:
        with admission.admitted(plan, plan.delegates[0], resized(plan, shape)) as (_, placed):
            return msgspec.to_builtins(placed)
    except ModelError as error:
        return str(error)


def _covered(placement: Coverage) -> dict[str, Any]:
    """Count the ops that XNNPACK runs, and those that are left to plain kernels."""
    each = list(zip(placement.ops, placement.delegated, strict=True))
    return {
        "share": placement.share,
        "covered": dict(Counter(op for op, on in each if on)),
        "left": dict(Counter(op for op, on in each if not on)),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    manifest = facts["manifest"]
    lines = [f"{manifest['name']} {manifest['version']}: {facts['file']}"]
    lines += [f"  {manifest[key]}" for key in ("description", "licence") if manifest.get(key)]
    lines += [f"  model       {facts['size']:,} bytes, sha256 {facts['sha256']}"]
    needs = facts["min_runtime_version"]
    lines += [f"  runtime     {facts['runtime']}" + (f"; the model needs TFLite {needs}" if needs else "")]
    if facts["refused"]:
        lines += [f"  REFUSED     {facts['refused']}"]
    for direction in ("inputs", "outputs"):
        lines += [f"  {direction:11} {_tensor(tensor)}" for tensor in facts[direction]]
    for key, signature in facts["signatures"].items():
        lines += [f"  signature   {key}: {', '.join(signature['inputs'])} -> {', '.join(signature['outputs'])}"]
    lines += _kept(facts)
    if facts["signed"]:
        lines += [
            f"  signed      by {manifest.get('signature_key') or 'a key without a name'}, which is not verified"
        ]
    for key in ("window", "transforms", "decoder", "metrics"):
        if manifest.get(key):
            lines += [f"  {key:11} {json.dumps(manifest[key], ensure_ascii=False)}"]
    if facts["labels"]:
        more = len(facts["labels"]) - _LABELS_SHOWN
        shown = ", ".join(facts["labels"][:_LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        lines += [f"  labels      {len(facts['labels'])}: {shown}"]
    lines += [f"  ops         {sum(facts['ops'].values())}: {_counts(facts['ops'])}"]
    for name, placed in facts["delegates"].items():
        lines += [
            f"  {name:11} XNNPACK covers {placed['share']:.0%} of the ops: {_counts(placed['covered']) or 'none'}"
        ]
        lines += [f"  {'':11} left to plain kernels: {_counts(placed['left'])}"] if placed["left"] else []
    for name, placed in facts["placements"].items():
        lines += [f"  {name:11} {_proof(placed)}"]
    return lines


def _kept(facts: dict[str, Any]) -> list[str]:
    lines = [f"  state       {facts['state']}"] if facts["state"] else []
    inputs = facts["inputs"]
    lines += [
        f"  state       input {tensor['name']} is output {tensor['state']} of the run before, as its manifest says"
        for tensor in inputs
        if tensor.get("state")
    ]
    if not any(tensor.get("state") or tensor.get("channels") for tensor in inputs):  # Else all of them are named.
        lines += [
            f"  state       input {taken} is perhaps output {given} of the run before; see the key inputs"
            for taken, given in facts["state_pairs"].items()
        ]
    return lines + ([f"  metadata    {problem}"] if (problem := facts["problem"]) else [])


def _proof(placed: Any) -> str:
    if isinstance(placed, str):
        return f"REFUSED     {placed}"
    shares = [
        f"{placed[key]:.1%} of {what}"
        for key, what in (("op_share", "the ops"), ("mac_share", "the multiply-adds"), ("time_share", "the time"))
        if placed.get(key) is not None
    ]
    left = f"; the CPU is left with {_counts(placed['left'])}" if placed.get("left") else ""
    device = f" on {placed['device']}" if placed.get("device") else ""
    speed = f"{placed['run_us']:.0f} µs a run, {placed['speed']:.2f} times the CPU's speed"
    return f"{', '.join(shares)}{device}; {speed}; off by {placed.get('error', 0):.3g}{left}"


def _tensor(tensor: dict[str, Any]) -> str:
    text = f"{tensor['name']} {tensor['shape']} {tensor['dtype']}"
    scale, zero_point = tensor.get("scale", []), tensor.get("zero_point", [])
    if len(scale) == 1:
        text += f", scale {scale[0]:g}, zero point {zero_point[0]}"
    elif scale:
        text += f", {len(scale)} scales from {min(scale):g} to {max(scale):g}"
    channels = ", ".join(tensor.get("channels", []))
    return (
        text
        + (f", channels {channels}" if channels else "")
        + (f", in {tensor['unit']}" if "unit" in tensor else "")
    )


def _counts(ops: dict[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in sorted(ops.items(), key=lambda item: -item[1]))
