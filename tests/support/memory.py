"""Who owns a window's memory, see ``limpet.contracts.stage``: what a stage gets is used again after the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limpet.contracts.data import Array, Window
    from limpet.contracts.stage import Stage


def keeps_no_memory_of_others(
    make: Callable[[], Stage], windows: Sequence[Window], output: Callable[[Window], Any]
) -> None:
    """Run a stage on windows whose arrays cannot be written to, and are overwritten after each call.

    It must give what it gives if every window has memory of its own. ``output`` returns what of a window counts.
    """
    private = make()
    expected = [_copied(output(private(_with_arrays(window, np.array)))) for window in windows]
    reused = make()
    for window, wanted in zip(windows, expected, strict=True):
        lent = _with_arrays(window, _read_only)
        arrays = [lent.values, *lent.inputs, *lent.outputs]
        found = _copied(output(reused(lent)))
        np.testing.assert_equal(found, wanted)
        for array in arrays:
            array.base[...] = 99


def _with_arrays(window: Window, change: Callable[[Array], Array]) -> Window:
    inputs, outputs = [change(one) for one in window.inputs], [change(one) for one in window.outputs]
    values = outputs[0] if outputs else change(window.values)
    return replace(window, values=values, inputs=inputs, outputs=outputs)


def _read_only(array: Array) -> Array:
    """Return a view of a copy that raises if it is written to."""
    view = np.array(array)[...]
    view.flags.writeable = False
    return view


def _copied(output: Any) -> Any:
    return np.array(output) if isinstance(output, np.ndarray) else output
