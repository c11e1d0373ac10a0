"""Prices of the C kernels: modelled instructions and code bytes on a target.

    instructions = sum of coefficient * quantity        k.conv2d_dsp paired run: 70 calls + 30 blocks + 0.9 MACs ...
    code bytes   = those of its calls and of the functions that these need, by the length of their texts

The quantities of a kernel (`Work`) are what its loops run over; the coefficients of each kernel on each target are
fitted to instructions counted on emulated cores (tests/bench/costs.py) and written down in `cost_table`. A kernel
without coefficients of its own takes those of its family, then those of all kernels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tinyir.costs import Cost, costs
from tinyir.pace import Pace
from tinyir.registry import OPS
from tinyir.target import Target
from tinyir.types import BufferType, TensorType

from . import kernels as _kernels  # noqa: F401  (registers kernels)
from .cost_table import CODE, COEFFICIENTS
from .kernels.base import Kernel, RowKernel
from .kernels.conv import ConvF32
from .kernels.depthwise import DepthwiseF32
from .kernels.dsp_conv import ConvDsp
from .kernels.dsp_depthwise import DepthwiseDsp
from .kernels.dsp_planes import PIXELS
from .kernels.dsp_triples import groups_of
from .kernels.dsp_winograd import PLACES, TILES, ConvWinograd
from .kernels.mve_conv import ConvMve
from .kernels.mve_depthwise import DepthwiseMve
from .kernels.qconv import ConvS8
from .kernels.qdepthwise import DepthwiseS8
from .kernels.qeltwise import PairRowsS8, PairS8
from .kernels.swar_conv import ConvSwar
from .library import needed

__all__ = ["QUANTITIES", "Work", "coefficients_of", "functions_of", "parents_of", "text_size", "variant_of", "work_of"]

_BLOCKED = (ConvF32, ConvS8, DepthwiseF32, DepthwiseS8)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_OTHERWISE = re.compile(r"#else\n.*?#endif", re.DOTALL)  # for compilers that do not know the instructions
_STRING = re.compile(r'"[^"]*"')
_ASSEMBLY = re.compile(r'\\n')
QUANTITIES = ("calls", "rows", "blocks", "reads", "loads", "writes", "macs")


@dataclass(frozen=True)
class Work:
    """What the loops of a kernel run over in one inference."""

    calls: int
    rows: int
    """Rows that are computed (or folded), one call's beginning and end being in `calls`."""
    blocks: int
    """Pixels of these rows, or what is computed together: columns of several pixels."""
    reads: int
    """Elements of the operand that are gone through, or gathered."""
    writes: int
    """Elements of the result, in whole blocks."""
    macs: int
    """Multiply-accumulates, in whole blocks."""
    loads: int = 0
    """Values and weights that are loaded to be multiplied, where blocks share them."""

    @property
    def quantities(self) -> tuple[int, ...]:
        """In the order of `QUANTITIES`."""
        return self.calls, self.rows, self.blocks, self.reads, self.loads, self.writes, self.macs


def work_of(kernel: Kernel) -> Work:
    """The work of a kernel op; with a pace, that of all its steps."""
    if isinstance(kernel, ConvDsp):
        return _conv_dsp(kernel)
    if isinstance(kernel, DepthwiseDsp):
        return _depthwise_dsp(kernel)
    if isinstance(kernel, ConvWinograd):
        return _conv_winograd(kernel)
    if isinstance(kernel, (ConvMve, DepthwiseMve)):
        return _conv_mve(kernel) if isinstance(kernel, ConvMve) else _depthwise_mve(kernel)
    if isinstance(kernel, ConvSwar) and kernel.pixels:
        return _conv_swar(kernel)
    if isinstance(kernel, RowKernel):
        found = _by_rows(kernel)
        return replace(found, loads=_loads(kernel)) if isinstance(kernel, _BLOCKED) else found
    x, y = (kernel.reads or kernel.writes)[0].type, kernel.writes[0].type
    return Work(kernel.batch(), 1, 1, x.elements, y.elements, kernel.macs())


def _by_rows(kernel: RowKernel) -> Work:
    x, y = kernel.reads[0].type, kernel.writes[0].type
    images, rows = kernel.batch(), kernel.rows[1] - kernel.rows[0]
    width = y.shape[2] if y.rank == 4 else x.shape[2]
    total = images * rows
    return Work(images * _calls(kernel), total, total * width, total * _row_elements(x), total * _row_elements(y),
                kernel.macs())


def _loads(kernel: ConvF32 | ConvS8 | DepthwiseF32 | DepthwiseS8) -> int:
    """How often a block of pixels times output channels loads a value or a weight."""
    macs = kernel.macs()
    lanes = kernel.lanes if isinstance(kernel, ConvS8) else kernel.weight.shape[4] if isinstance(kernel, ConvF32) else 1
    return macs // max(1, kernel.pixels) + macs // max(1, lanes)


def _conv_dsp(kernel: ConvDsp) -> Work:
    """Columns of four, two or one pixels, which go on from row to row where rows lie behind each other."""
    images, rows, calls = kernel.batch(), kernel.rows[1] - kernel.rows[0], _calls(kernel)
    width, outputs = kernel.y.shape[2:]
    runs = images * _runs(kernel, rows, calls)
    run = images * rows * width / runs
    left, columns, computed = run, 0.0, 0.0
    for size in kernel.sizes:
        count = left // size if size > kernel.sizes[-1] else -(-left // size)
        left, columns, computed = max(0.0, left - count * size), columns + count, computed + count * size
    computed = round(runs * computed)
    gathered = images * rows * width * kernel.steps * 4
    return Work(images * calls, images * rows, round(runs * columns), gathered, computed * outputs,
                computed * outputs * kernel.steps * 4, round(runs * columns) * outputs * kernel.steps)


def _conv_winograd(kernel: ConvWinograd) -> Work:
    """Four tiles at a time, which go on from two rows to the next two of a call: products for two channels at each of
    their places. Steps may begin with an odd row, which costs two rows more.
    """
    images, rows, calls = kernel.batch(), kernel.rows[1] - kernel.rows[0], _calls(kernel)
    a_call, odd = (-(-rows // calls) + 1) // 2, int(kernel.pace is not None)
    columns = images * (calls * -(-a_call * kernel.tiles // TILES) + odd * -(-kernel.tiles // TILES))
    channels, pairs = kernel.x.shape[3], -(-kernel.y.shape[3] // 2)
    products, results = columns * TILES * PLACES, columns * TILES * 4
    return Work(images * calls, images * (calls * a_call + odd), columns, products * channels, results * 2 * pairs,
                products * 2 * pairs * channels, columns * PLACES * pairs)


def _conv_mve(kernel: ConvMve) -> Work:
    """Four pixels at a time, 16 inputs at a time."""
    images, rows, calls = kernel.batch(), kernel.rows[1] - kernel.rows[0], _calls(kernel)
    width, outputs = kernel.y.shape[2:]
    runs = images * _runs(kernel, rows, calls)
    run = -(-images * rows * width // runs)
    blocks, computed = runs * -(-run // kernel.pixels), runs * (_of_four(run) if kernel.pixels == 4 else run)
    sixteens = -(-kernel.inputs // 16)
    return Work(images * calls, images * rows, blocks, images * rows * width * kernel.inputs, blocks * 4 * outputs,
                computed * outputs * sixteens * 16, blocks * outputs)


def _conv_swar(kernel: ConvSwar) -> Work:
    """Columns of four pixels or two; what is loaded are the segments of all output channels."""
    images, rows, calls = kernel.batch(), kernel.rows[1] - kernel.rows[0], _calls(kernel)
    width, outputs = kernel.y.shape[2:]
    runs = images * _runs(kernel, rows, calls)
    pixels = images * rows * width
    columns = runs * -(-pixels // runs // kernel.pixels)
    return Work(images * calls, images * rows, columns, pixels * kernel.inputs, pixels * outputs,
                columns * kernel.pixels * outputs * kernel.inputs, columns * kernel.segment_count())


def _of_four(pixels: int) -> int:
    """Pixels that are computed where one or two that are left over are, but three take the time of four."""
    return pixels + (pixels % 4 == 3)


def _depthwise_mve(kernel: DepthwiseMve) -> Work:
    """Strips of a row, of 16 channels each: columns of four lines, then four results at a time."""
    images, rows = kernel.batch(), kernel.rows[1] - kernel.rows[0]
    width, channels = kernel.y.shape[2:]
    fours, strips = [-(-size // 4) for size in kernel.kernel], -(-width // kernel.strip)
    blocks = images * rows * strips * -(-channels // 16)
    columns = -(-width // strips) * kernel.stride[1] + kernel.kernel[1] - 1
    results = images * rows * _of_four(width) * channels
    return Work(images * _calls(kernel), images * rows, blocks, blocks * columns * fours[0], results,
                results * fours[0] * fours[1] * 16)


def _runs(kernel: ConvDsp | ConvMve | ConvSwar, rows: int, calls: int) -> int:
    """How many runs of pixels that lie behind each other the rows are; rings cut them where they end."""
    if not kernel.pointwise:
        return rows if kernel.is_parted("y") else calls
    if any(kernel.in_runs(name) and not kernel.is_ring(name) for name in ("x", "y")):
        return rows
    a_call, cuts = -(-rows // calls), 0
    for name in ("x", "y"):
        ring = kernel.ring(name)
        if kernel.is_parted(name) and kernel.join(name) is None and ring % a_call:
            cuts = max(cuts, rows // ring)
    return min(rows, calls + cuts)


def _depthwise_dsp(kernel: DepthwiseDsp) -> Work:
    """Four channels at a time: planes of a band of rows, or groups of three rows; four columns a step, of groups two
    where one or two are left.
    """
    images, rows, calls = kernel.batch(), kernel.rows[1] - kernel.rows[0], _calls(kernel)
    width, channels = kernel.y.shape[2:]
    taps, stride, sets = kernel.kernel, kernel.stride[0], -(-channels // 4)
    columns = -(-width // PIXELS) * PIXELS
    if kernel.band == 0 and width % 4 in (1, 2):
        columns = width // 4 * 4 + 2
    words = -(-(taps[1] + (stride == 1)) // 2)
    band = max(1, min(kernel.band, -(-rows // calls)))
    bands = -(-rows // band)
    lines = bands * ((band - 1) * stride + taps[0])
    each = kernel.x.shape[2] if kernel.band else 2 * groups_of(width, stride)
    return Work(images * calls, images * bands * sets, images * lines * sets, images * lines * sets * each,
                images * rows * columns * channels, images * rows * columns * channels * taps[0] * words)


def _row_elements(type_: TensorType | BufferType) -> int:
    return int(np.prod(type_.shape[2:])) if type_.rank == 4 else type_.elements


def _calls(kernel: RowKernel) -> int:
    """In how many steps rows are due."""
    rows = kernel.rows[1] - kernel.rows[0]
    if kernel.pace is None:
        return 1
    pace = Pace(*kernel.pace)
    return -(-rows * pace.steps // pace.rows) if pace.rows >= pace.steps else rows


def variant_of(kernel: Kernel) -> str:
    """The name that a kernel's coefficients go by: its op, and what else decides about the code of its loops, the more
    important first.
    """
    attributes = kernel.__dict__
    words = [kernel.opname, str(kernel.writes[0].type.dtype)]
    words += [str(attributes[name]) for name in ("coding", "function") if name in attributes]
    if isinstance(kernel, (PairS8, PairRowsS8)):
        words.append(_form_of(kernel))
    if isinstance(kernel, DepthwiseDsp):
        words.append("planes" if kernel.band else "groups")
    if isinstance(kernel, ConvSwar) and kernel.pixels < 4:
        words.append("of two" if kernel.pixels else "direct")
    words += ["emulated"] if attributes.get("emulated") else []
    window, stride = getattr(kernel, "kernel", None), attributes.get("stride", (1, 1))
    if window is not None:
        words.append("run" if (*window, *stride) == (1, 1, 1, 1) else f"{window[0]}x{window[1]}")
    return " ".join([*words, f"by {stride[1]}"] if stride[1] > 1 else words)


def _form_of(kernel: PairS8 | PairRowsS8) -> str:
    if kernel.function == "mul":
        return "emulated" if kernel.form[2] < 0 else "product"
    return "table" if kernel.table is not None else "wide" if kernel.form[-1] else "narrow"


def parents_of(variant: str) -> list[str]:
    """The names to look under for coefficients: the variant, and what it is one of."""
    words = variant.split()
    return [*(" ".join(words[:count]) for count in range(len(words), 0, -1)), "other"]


def _priced(target: Target) -> str:
    """The core whose prices a target has: its own, or that of one that runs the same kernels."""
    if target.core in COEFFICIENTS:
        return target.core
    return "cortex-m4" if target.dsp else "generic"


def coefficients_of(kernel: Kernel, target: Target) -> tuple[float, ...]:
    """Instructions for one of each of `QUANTITIES`."""
    known = COEFFICIENTS[_priced(target)]
    return next(known[name] for name in parents_of(variant_of(kernel)) if name in known)


@cache
def text_size(text: str) -> tuple[int, int]:
    """What a C function's machine code is estimated by: instructions of assembly in it, and characters of C."""
    bare = _OTHERWISE.sub("", _COMMENT.sub("", text))
    return len(_ASSEMBLY.findall(bare)), len("".join(_STRING.sub("", bare).split()))


@cache
def functions_of(text: str) -> tuple[str, ...]:
    """The texts of a kernel function and of all that it needs."""
    return text, *needed([text])


def _price(kernel: Kernel, target: Target) -> Cost:
    pairs = zip(coefficients_of(kernel, target), work_of(kernel).quantities, strict=True)
    a_call, a_line, a_character = CODE[_priced(target)]
    sizes = {text: text_size(text) for text in functions_of(kernel.source())}
    return Cost(round(sum(c * q for c, q in pairs)), call_bytes=round(a_call), functions=frozenset(
        (text, round(lines * a_line + characters * a_character)) for text, (lines, characters) in sizes.items()))


for _, _kind in sorted(OPS.items()):
    if issubclass(_kind, Kernel):
        costs(_kind)(_price)
