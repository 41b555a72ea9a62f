"""Decoders of records that processes send each other."""

from __future__ import annotations

import subprocess
import sys


def test_the_garbage_collector_survives_the_decoders_of_records() -> None:
    """It does not with every type that msgspec takes, and a worker then ends by a segmentation fault."""
    program = """
import gc, msgspec
from limpet.wire import deploy_records, executor_records, fork_records, records
from limpet.updates.state import Updates
kinds = [Updates, fork_records.ToForkServer, deploy_records.FromDeployer, executor_records.ToExecutor,
         executor_records.FromExecutor, records.ToWorker, records.FromWorker]
for kind in kinds:
    decoder = msgspec.msgpack.Decoder(kind, dec_hook=print)
    gc.collect()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
