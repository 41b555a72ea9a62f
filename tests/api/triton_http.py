"""Runs in .venv-triton: Triton's HTTP client, unchanged, against a server at the address that is its argument."""

from __future__ import annotations

import sys

from tritonclient.http import InferenceServerClient


def main(address: str) -> None:
    with InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        metadata = client.get_server_metadata()
        assert metadata["name"] == "limpet", metadata
        assert "system_shared_memory" in metadata["extensions"]


if __name__ == "__main__":
    main(sys.argv[1])
