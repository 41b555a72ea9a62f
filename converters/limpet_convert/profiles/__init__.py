"""Profiles of devices that are not at hand: what they run, and how fast reference models run there."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import msgspec
import tomli_w
from msgspec import Meta

from limpet import config
from limpet.contracts.fields import Count, Positive
from limpet.errors import ConfigError, ConfigFileError
from limpet.filling import fill
from limpet.problems.locate import locate
from limpet.wording import suggest
from limpet_convert import reference, tuning
from limpet_convert.project import Variant

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray
    from limpet_convert.devices import Device
    from limpet_convert.tuning import Clock

HERE = Path(__file__).parent
_REFERENCES: dict[Variant, str] = {
    "float": reference.FLOAT,
    "float16": reference.FLOAT,
    "int16x8": reference.INT16,
}
"""Which reference a variant is scaled by, where that is not the one in int8."""
Reference = Annotated[
    str, Meta(pattern=f"^({'|'.join(reference.NAMES)})$", extra={"use": f"one of {', '.join(reference.NAMES)}"})
]


class Profile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device profile. ``source`` says where the figures come from.

    ``variants`` it takes, empty for all; ``max_size`` of a model's file in bytes. ``run_us``: the median time of a
    run of each of ``limpet_convert.reference``'s models there, in µs.
    """

    name: Annotated[
        str, Meta(pattern=r"^[\w.@/-]+$", extra={"use": 'letters, digits, "_", ".", "@", "/" and "-"'})
    ]
    source: str
    variants: list[Variant] = []
    max_size: Count | None = None
    run_us: dict[Reference, Positive] = {}

    def __post_init__(self) -> None:
        if missing := self.run_us and sorted(set(reference.NAMES) - self.run_us.keys()):
            raise ValueError(f"run_us: {missing[0]} is missing; measure the profile again")

    def refusal(self, variant: Variant, size: int) -> str:
        """Return why the device does not take a variant, if it does not."""
        if self.variants and variant not in self.variants:
            return f"{self.name} takes {', '.join(self.variants)} only"
        if self.max_size is not None and size > self.max_size:
            return f"{self.name} takes {self.max_size:,} B at most"
        return ""


def read(wanted: str) -> Profile:
    """Read a profile by its name or from a file. ``ConfigError`` says all that is wrong with it."""
    path = HERE / f"{wanted}.toml"
    if not path.is_file():
        path = Path(wanted)
        if not path.suffix:
            raise ConfigError([f"there is no profile {wanted!r}{suggest(wanted, names())}, and no such file"])
    text, table = config.parse(path, hint="")
    problems: list[str] = []
    profile = fill(Profile, table, "profile", path.parent, problems)
    if profile is None:
        keys = [problem.removeprefix("profile.") for problem in problems]
        raise ConfigFileError(locate(path, text, keys))
    return profile


def names() -> list[str]:
    """Return the profiles that are here."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def measure(device: Device) -> Profile:
    """Run the reference models on a device. ``DeviceError``."""
    found = {}
    clock = tuning.There(device)
    for name in reference.NAMES:
        found[name] = round(_time(clock, name), 1)
    answer = clock.answer
    return Profile(
        name=device.name,
        source=f"measured by limpet-convert: Limpet {answer.limpet}, {answer.runtime}, delegate {answer.delegate}",
        run_us=found,
    )


def toml(profile: Profile) -> str:
    """Write a profile."""
    return "# run_us: median time of a run in µs\n" + tomli_w.dumps(msgspec.to_builtins(profile))


class Estimate:
    """A ``Clock`` that measures here, and scales by what a reference of the same numbers takes there and here."""

    def __init__(self, profile: Profile, here: Clock) -> None:
        self.label = f"estimated for {profile.name}"
        self._here = here
        self._ratios = {name: time / _time(here, name) for name, time in profile.run_us.items()}

    def __call__(self, path: Path, inputs: FloatArray, variant: Variant) -> float:
        """See ``Clock``."""
        return self._here(path, inputs, variant) * self._ratios[_REFERENCES.get(variant, reference.INT8)]


def _time(clock: Clock, name: str) -> float:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.tflite"
        path.write_bytes(reference.model(name))
        return clock(path, reference.image(), "float")
