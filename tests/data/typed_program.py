"""A program that embeds Limpet, as a type checker sees it. tests/test_embedding.py checks it with mypy."""

from typing_extensions import reveal_type

from limpet import Anomaly, Classification, Pipeline

with Pipeline("motion-1.limpet", output=Classification) as typed:
    for result in typed.feed([[0.0, 1.0]]):
        reveal_type(result.output)
with Pipeline.from_config("limpet.toml", "motion", output=Anomaly) as configured:
    reveal_type(configured.infer([0.0]).output.score)
with Pipeline("motion-1.limpet") as untyped:
    output = untyped.infer([[0.0]]).output
    if isinstance(output, Classification):
        reveal_type(output.top[0].label)
Pipeline("motion-1.limpet", chanels=["a"])
