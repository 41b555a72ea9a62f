"""Run a bundle's golden vectors with the agent's own code; print the difference as a share of the tolerance.

Needs the agent only, so that it runs on each TFLite runtime in that runtime's environment.
"""

import sys
import tempfile
from pathlib import Path

from limpet.deploy import bundle, golden
from limpet.runtimes import tflite


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        loaded = bundle.load(Path(sys.argv[1]), Path(cache))
        with tflite.open(loaded.model, tflite.Config()) as model:
            print(golden.check_golden(loaded, model) / loaded.manifest.tolerance.absolute)


if __name__ == "__main__":
    main()
