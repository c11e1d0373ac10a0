"""Loop nests over strided arrays, with as few loops as the strides allow.

    nest((2, 3, 4), {"x": (0, 4, 1), "y": (12, 4, 1)}, "{y} = {x};")

merges the last two axes, which are contiguous in both arrays:

    for (int32_t i0 = 0; i0 < 2; i0++) {
        for (int32_t i1 = 0; i1 < 12; i1++) {
            y[i0 * 12 + i1] = x[i1];
        }
    }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyir.types import Shape

from ..text import fill

__all__ = ["broadcast_strides", "collapse", "index", "nest", "row_major"]

Strides = tuple[int, ...]


def row_major(shape: Sequence[int]) -> Strides:
    """Elements from one index to the next along each axis of a dense array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def broadcast_strides(shape: Sequence[int], out: Sequence[int]) -> Strides:
    """Strides that walk a dense array of `shape` over `out`, numpy-style: 0 along axes where it has one element."""
    padded = (1,) * (len(out) - len(shape)) + tuple(shape)
    dense = row_major(padded)
    return tuple(0 if p == 1 else s for p, s in zip(padded, dense, strict=True))


def collapse(shape: Sequence[int], strides: Mapping[str, Sequence[int]]) -> tuple[Shape, dict[str, Strides]]:
    """The same walk with fewer axes: those of extent 1 dropped, neighbours merged where every array allows it."""
    extents: list[int] = []
    steps: dict[str, list[int]] = {name: [] for name in strides}
    for axis, extent in enumerate(shape):
        if extent == 1:
            continue
        here = {name: s[axis] for name, s in strides.items()}
        if extents and all(steps[name][-1] == here[name] * extent for name in strides):
            extents[-1] *= extent
            for name in strides:
                steps[name][-1] = here[name]
            continue
        extents.append(extent)
        for name in strides:
            steps[name].append(here[name])
    return tuple(extents), {name: tuple(s) for name, s in steps.items()}


def index(strides: Sequence[int], offset: int = 0) -> str:
    """C expression for the element at (i0, i1, ...)."""
    terms = [f"i{axis}" if s == 1 else f"i{axis} * {s}" if s > 0 else f"i{axis} * ({s})"
             for axis, s in enumerate(strides) if s != 0]
    if offset or not terms:
        terms.append(str(offset))
    return " + ".join(terms).replace("+ -", "- ")


def nest(shape: Sequence[int], strides: Mapping[str, Sequence[int]], body: str,
         offsets: Mapping[str, int] | None = None) -> str:
    """Loops over `shape` around `body`, in which `{x}` stands for the current element of the array x."""
    extents, steps = collapse(shape, strides)
    offsets = offsets or {}
    inner = fill(body, **{name: f"{name}[{index(s, offsets.get(name, 0))}]" for name, s in steps.items()})
    lines = inner.rstrip("\n").splitlines()
    for axis in reversed(range(len(extents))):
        head = f"for (int32_t i{axis} = 0; i{axis} < {extents[axis]}; i{axis}++) {{"
        lines = [head, *(f"    {line}" for line in lines), "}"]
    return "\n".join(lines)
