"""What finds and words problems is not in the memory of a daemon whose configuration is right."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = '[device]\nid = "d"\n[jsonl]\n[sources.s]\nkind = "serial"\n[pipelines.p]\nsource = "s"\nmodel = "m"\n'
READ = """
import sys
from pathlib import Path
from limpet import cli, command_line, config
from limpet.delivery import reporters
from limpet.supervision import starting
reporters.resolve(config.read(Path(sys.argv[1])))
print(sorted(name for name in sys.modules if name.startswith("limpet.problems")))
"""


def test_a_right_configuration_is_read_without_it(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(CONFIG)
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
