"""Shared libraries with TFLite's external delegate interface, loaded so that every failure says what to do.

The interface is that of ``tensorflow/lite/delegates/external/external_delegate_interface.h``. The runtimes have
their own loader, but it keeps the interpreter lock while a device opens. If a library is missing or has no device,
it prints a traceback from a half-made object.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

from limpet.accelerators.delegate_kinds import KINDS
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from limpet.contracts.delegate import Choice

_Report = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_CREATE = "tflite_plugin_create_delegate"
_DESTROY = "tflite_plugin_destroy_delegate"


class LibraryDelegate:
    """A delegate to hand to an interpreter, which must be gone before this is."""

    def __init__(self, library: ctypes.CDLL, options: Mapping[str, str]) -> None:
        """Create it; that may open a device. ``ValueError`` has the library's reason, often empty."""
        said: list[bytes] = []
        text = ctypes.c_char_p * len(options)
        keys = text(*(key.encode() for key in options))
        values = text(*(value.encode() for value in options.values()))
        create, destroy = library[_CREATE], library[_DESTROY]
        create.argtypes = [text, text, ctypes.c_size_t, _Report]
        create.restype = ctypes.c_void_p
        destroy.argtypes, destroy.restype = [ctypes.c_void_p], None
        self._pointer = create(keys, values, len(options), _Report(said.append))
        if not self._pointer:
            raise ValueError(b" ".join(said).decode("utf-8", "replace").strip())
        # Not at exit: by then the interpreter may be gone, or not, and the kernel closes the device anyhow.
        weakref.finalize(self, destroy, self._pointer).atexit = False

    def _get_native_delegate_pointer(self) -> int:
        """Return the address of the TfLiteDelegate: what the runtimes ask of a delegate."""
        return int(self._pointer)


def load(choice: Choice, explain: Callable[[str], str] = lambda _kind: "") -> LibraryDelegate:
    """Load the library of a choice and create its delegate.

    If the library gives no reason, ``explain`` returns why a device of a kind may not be usable. ``ModelError``
    says what is missing and what to do.
    """
    name, library = _open(choice)
    try:
        return LibraryDelegate(library, choice.options)
    except ValueError as error:
        reason = str(error) or explain(choice.kind) or "it gives no reason. Check that its device is there"
        raise ModelError(f"delegate {choice.name!r}: {name} cannot be used: {reason}") from error


def _open(choice: Choice) -> tuple[str, ctypes.CDLL]:
    problems: list[str] = []
    for name in choice.libraries:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            problems.append(str(error))
            continue
        if hasattr(library, _CREATE) and hasattr(library, _DESTROY):
            return name, library
        problems.append(f"{name} is no TFLite delegate: it does not export {_CREATE}")
    raise ModelError(f"delegate {choice.name!r}: {problems[0]}; {KINDS[choice.kind].install}")
