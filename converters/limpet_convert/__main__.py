"""``python -m limpet_convert`` is ``limpet-convert``."""

import sys

from limpet_convert.cli import main

sys.exit(main())
