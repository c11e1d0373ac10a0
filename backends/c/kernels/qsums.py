"""What the integer kernels that multiply and accumulate have in common: how they store sums, how weights are packed.

Such a kernel has, behind its own fields, the attributes that `StoresSums` names, and the operands `multiplier` and
`rounding`, which are absent where all channels share one value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyir.diag import error
from tinyir.ir import Array, Const, Value
from tinyir.lowering import Lowering
from tinyir.opdef import Op
from tinyir.ops.quant import quant_of

from ..text import fill
from .base import Kernel, c_type
from .qrequant import Stored, apply_stored, requantized
from .qtile import SumTile

__all__ = ["StoresSums", "differences", "elements", "packed", "sum_fields", "wraps_around"]


class StoresSums(Kernel):
    """A kernel whose int32 sums become stored values, one requantisation a channel."""

    if TYPE_CHECKING:
        @property
        def x(self) -> Value: ...
        @property
        def y(self) -> Value: ...
        @property
        def weight(self) -> Value: ...
        @property
        def bias(self) -> Value: ...
        @property
        def multiplier(self) -> Value | None: ...
        @property
        def rounding(self) -> Value | None: ...
        @property
        def common(self) -> tuple[int, int]: ...
        @property
        def shift(self) -> int: ...
        @property
        def zero(self) -> int: ...
        @property
        def clamp(self) -> tuple[int, int] | None: ...
        @property
        def emulated(self) -> bool: ...

    def stem(self) -> str:
        return f"{super().stem()}_{self.x.type.dtype}"

    @property
    def stored(self) -> Stored:
        return Stored(self.multiplier, self.rounding, self.common, self.shift, self.zero, self.clamp, self.emulated)

    @property
    def kinds(self) -> dict[str, str]:
        """The C types of the elements of x, weight and y, to fill into texts."""
        return {"xt": c_type(self.x.type.dtype), "wt": c_type(self.weight.type.dtype),
                "yt": c_type(self.y.type.dtype)}

    def pointers(self) -> str:
        """The pointer parameters of the C function."""
        lines = ["const {xt} *restrict x", "const {wt} *restrict weight", "const int32_t *restrict bias"]
        if self.multiplier is not None:
            lines.append("const int32_t *restrict multiplier")
        if self.rounding is not None:
            lines.append("const int64_t *restrict rounding")
        return fill(", ".join([*lines, "{yt} *restrict y"]), **self.kinds).strip()

    def store(self, total: str, channel: str) -> str:
        """C expression of the type of y for the sum `total` of channel `channel`."""
        value = requantized(self.stored, total, channel)
        return value if self.clamp is None else f"({self.kinds['yt']}){value}"

    def store_tile(self, tile: SumTile, pixels: int, out: str, pixel_step: int, channel: str) -> str:
        """Statements that store a block: channels from `channel` on, pixels `pixel_step` apart."""
        return "\n".join(
            f"{out}[{pixel * pixel_step + lane}] = "
            f"{self.store(tile.total(pixel, lane), f'{channel} + {lane}' if lane else channel)};"
            for pixel in range(pixels) for lane in range(tile.lanes))

    def finish(self, sums: Array, multiplier: Array | None, rounding: Array | None) -> Array:
        """What is stored for int64 sums [..., O], which wrap around in int32."""
        return apply_stored(self.stored, sums.astype(np.int32), multiplier, rounding, self.y.type.dtype)


def sum_fields(stored: Stored) -> dict[str, Any]:
    """The operands and attributes of a kernel that say how it stores sums."""
    return {"multiplier": stored.multiplier, "rounding": stored.rounding, "common": stored.common,
            "shift": stored.shift, "zero": stored.zero, "clamp": stored.clamp, "emulated": stored.emulated}


def elements(value: Value, op: Op) -> Array:
    """The elements of a constant. Raises CompileError for what is not one, or has none."""
    if not isinstance(value, Const):
        raise op.error(f"%{value.name} is computed by the model, expected a constant",
                       help="quantised weights and biases have to be constants")
    data = value.data
    if data is None:
        raise error(f"constant @{value.name} has no elements: they were left out of the text", loc=value.loc,
                    help="print the module with a sidecar file, or give the constant a payload")
    return np.asarray(data)


def differences(value: Value, op: Op) -> Array:
    """The weights less their zero point: i8 where that holds them, else i16."""
    stored = elements(value, op).astype(np.int16)
    quant = quant_of(value)
    zero = np.asarray(quant.zero_points, np.int16)
    if quant.axis is not None and zero.size > 1:
        shape = [1] * stored.ndim
        shape[quant.axis] = -1
        zero = zero.reshape(shape)
    wide = stored - zero
    fits = wide.size == 0 or (wide.min() >= -128 and wide.max() <= 127)
    return wide.astype(np.int8) if fits else wide


def packed(name: str, weight: Array, bias: Array, low: Lowering) -> tuple[Const, Const]:
    """Weights and biases as constants; biases (i64) wrap around in int32, as the sums that start with them do."""
    return low.const(name, weight), low.const(f"{name}.bias", bias.astype(np.int32))


def wraps_around(x: Value, weight: Array, bias: Array) -> bool:
    """Whether a partial sum of stored x times `weight` [O, K] from `bias` [..., O] on might leave int32."""
    low, high = x.type.dtype.range
    size = 2 * max(-low, high)  # 255 or 256: differences from the zero point are no greater
    reach = np.abs(weight.astype(np.int64)).sum(axis=1) * size + np.abs(bias.astype(np.int64))
    return bool(reach.max() >= 2**31)
