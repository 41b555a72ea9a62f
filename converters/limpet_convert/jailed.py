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
from limpet_convert.jail import LARGEST, Answer


def work() -> None:
    """Enter the sandbox, then do the jobs that come on stdin until it ends."""
    read, scratch = ([Path(path) for path in group] for group in json.loads(sys.argv[1]))
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints must not get between the answers.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
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
        return Answer(jobs.JOBS[job](*arguments))
    except ConfigError as error:
        return Answer(problems=list(error.problems))
    except LimpetError as error:
        return Answer(error=str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001 - a library, or code of the model, raises anything
        text = " ".join(str(error).split())[:500]
        return Answer(error=f"the model could not be read: {type(error).__name__}: {text}")
