"""What runs in the child of a ``Jail``: it enters the sandbox, then does jobs."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from limpet.errors import ConfigError, LimpetError
from limpet.isolation import sandbox
from limpet.isolation.permissions import Permissions
from limpet.wire import stream
from limpet_convert.errors import ConvertError
from limpet_convert.jail import LARGEST, Answer
from limpet_convert.libraries import called, print_to


def work() -> None:
    """Enter the sandbox, then do the jobs that come on stdin until it ends."""
    read, scratch = ([Path(path) for path in group] for group in json.loads(sys.argv[1]))
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    print_to(os.fdopen(os.dup(2), "r+b", buffering=0))
    os.umask(0o077)  # coremltools copies files with their modes, and the sandbox permits this one.
    answer = Answer(sandbox.enter(Permissions(read=frozenset(read), scratch=frozenset(scratch))))
    with suppress(EOFError):
        while True:
            stream.write(answers, answer)
            answers.flush()
            answer = _done(*stream.read(orders, list, LARGEST))


def _done(job: str, *arguments: Any) -> Answer:
    from limpet_convert import jobs  # After the sandbox: importing NumPy starts threads.

    try:
        with called("its library", "the model could not be read"):  # It, or code of the model, raises anything.
            return Answer(jobs.JOBS[job](*arguments))
    except ConfigError as error:
        return Answer(problems=list(error.problems))
    except LimpetError as error:
        details = error.details if isinstance(error, ConvertError) else ""
        return Answer(error=str(error) or type(error).__name__, details=details)
