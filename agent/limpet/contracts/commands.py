"""What commands from outside may ask for, and how much."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.accuracy import MOST_GROUPS, GroupName
from limpet.contracts.explanation import Question
from limpet.contracts.messages import Tensor

PATIENCE = 30.0
"""Seconds that a worker may take to answer."""
LARGEST = 1 << 21
"""Bytes of a command."""
MOST_WINDOWS, LARGEST_WINDOWS, LARGEST_OUTPUTS = 256, 1 << 20, 1 << 20
"""Windows in one ``infer``, their bytes, and those of the outputs."""
MOST_VALUES = LARGEST_WINDOWS // 4 + 64
"""Values in one command, which are much larger in memory than as text."""
MOST_KEPT = 100
"""Windows that one ``keep`` takes."""
LABEL = "label"
"""The command that `limpet record` obeys, in its own process. The daemon leaves it alone."""
TOO_MANY, BUSY = "too many commands", "busy"
"""How an answer begins that asks for patience."""


class Ping(msgspec.Struct, forbid_unknown_fields=True):
    """Answers with boot and version."""


class Health(msgspec.Struct, forbid_unknown_fields=True):
    """Answers with the device's health, and publishes all health messages now."""


class Restart(msgspec.Struct, forbid_unknown_fields=True):
    """Restarts the worker of a pipeline, and with it the pipelines on the same source."""

    pipeline: str


class LogLevel(msgspec.Struct, forbid_unknown_fields=True):
    """Sets from which level on all processes log, until they restart."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class Threshold(msgspec.Struct, forbid_unknown_fields=True):
    """Sets the threshold of a pipeline's decoder, until the pipeline is started again."""

    pipeline: str
    value: float


class CaptureInputs(msgspec.Struct, forbid_unknown_fields=True):
    """Answers with the inputs of a pipeline's model for its next window."""

    pipeline: str


class Keep(msgspec.Struct, forbid_unknown_fields=True):
    """Puts the next windows of a pipeline into its ring of captures, and answers then."""

    pipeline: str
    windows: Annotated[int, Meta(ge=1, le=MOST_KEPT)] = 1


class Snapshot(msgspec.Struct, forbid_unknown_fields=True):
    """Has a picture of the last result of a pipeline published, and answers what it shows."""

    pipeline: str


LONGEST_ENROLLED, MOST_ENROLLED_WINDOWS = 64, 100
"""Characters of a label that is enrolled, and windows that one command takes."""
EnrolledLabel = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,64}\Z",
        extra={"use": "1 to 64 characters that can be printed"},
    ),
]


class Enrol(msgspec.Struct, forbid_unknown_fields=True):
    """Takes the next windows of a pipeline as examples of a label, and answers what is enrolled then."""

    pipeline: str
    label: EnrolledLabel
    windows: Annotated[int, Meta(ge=1, le=MOST_ENROLLED_WINDOWS)] = 1


class Forget(msgspec.Struct, forbid_unknown_fields=True):
    """Removes a label that was enrolled, and answers what is enrolled then."""

    pipeline: str
    label: EnrolledLabel


class Infer(msgspec.Struct, forbid_unknown_fields=True):
    """Answers with what the model of a pipeline makes of windows of model input, between the pipeline's own.

    ``windows`` come one after another: the first axis counts them.
    """

    pipeline: str
    windows: Tensor


class Explain(Question, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Answers with what the answer to the next window of a pipeline hangs on. It runs between the pipeline's own.

    ``by``: parts of the window. ``method``: how they are weighed. ``label``: the class or quantity to explain in
    place of the answer. ``baseline``: what replaces a hidden part. ``invokes``: how often the model may run.
    ``change``: whether to look for the smallest change that gives another answer.
    """

    pipeline: str


class Install(msgspec.Struct, forbid_unknown_fields=True):
    """Puts a model to work that is staged, or tries the last request again that failed."""

    pipeline: str


class Promote(msgspec.Struct, forbid_unknown_fields=True):
    """Ends the shadow of a new model, so that it takes over, or its trial, so that it is good."""

    pipeline: str


class Rollback(msgspec.Struct, forbid_unknown_fields=True):
    """Has a pipeline run its last good model in place of one on trial, else the model before."""

    pipeline: str


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Gives up the update of a pipeline that is under way. The model before goes on."""

    pipeline: str


LONGEST_ID = 256
"""Characters of the id of a result."""


class Feedback(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Gives the truth about the window of a result: one of the last of its pipeline, or a captured one.

    ``id``: that of the result. ``truth``: a label, a number, all labels that apply, or null if nothing is there.
    ``tolerance``: how far a number may be off. A number needs it. ``groups``: where the window belongs, such as
    ``{"machine": "m7"}``, in place of the pipeline's own. The answer says whether the result was right, and which
    model was, while a new model is compared with the one before.
    """

    id: Annotated[str, Meta(max_length=LONGEST_ID)]
    truth: str | float | list[str] | None
    tolerance: Annotated[float, Meta(ge=0, le=1e300)] | None = None
    groups: Annotated[dict[GroupName, GroupName], Meta(max_length=MOST_GROUPS)] = {}


class Undo(msgspec.Struct, forbid_unknown_fields=True):
    """Undoes an adaptation of a pipeline and all later ones. Default: the newest one that is in force.

    The answer has the numbers of those that were undone.
    """

    pipeline: str
    number: Annotated[int, Meta(ge=1, le=1 << 53)] | None = None


Request: TypeAlias = (
    Ping
    | Health
    | Restart
    | LogLevel
    | Threshold
    | CaptureInputs
    | Keep
    | Snapshot
    | Enrol
    | Forget
    | Infer
    | Explain
    | Install
    | Promote
    | Rollback
    | Cancel
    | Feedback
    | Undo
)
REQUESTS: dict[str, type[Request]] = {
    "ping": Ping,
    "health": Health,
    "restart": Restart,
    "log_level": LogLevel,
    "threshold": Threshold,
    "capture": CaptureInputs,
    "keep": Keep,
    "snapshot": Snapshot,
    "enrol": Enrol,
    "forget": Forget,
    "infer": Infer,
    "explain": Explain,
    "install": Install,
    "promote": Promote,
    "rollback": Rollback,
    "cancel": Cancel,
    "feedback": Feedback,
    "undo": Undo,
}
