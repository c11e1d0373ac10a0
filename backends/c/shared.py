"""One C function for kernels whose texts differ in dimensions only: it takes these as further parameters.

    static void mean_s8_i8(const int8_t *restrict x, int8_t *restrict y)
    {
        for (int32_t i = 0; i < 256; i++) {        and the same with 384 in place of 256
        ->
    static void mean_s8_i8(const int8_t *restrict x, int8_t *restrict y,
        int32_t channels)
    {
        for (int32_t i = 0; i < channels; i++) {

A kernel names the numbers for which that costs next to nothing (`Kernel.dimensions`). What is the same for all kernels
that share a function stays a literal in it; there are several functions where that takes less code than to pass more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .kernels.base import Kernel

__all__ = ["NOINLINE", "Shared", "share"]

NOINLINE = "__attribute__((noinline))"

_NUMBER = re.compile(r"static const [^;]*;|(?<![\w.\[])\d+(?![\w.])")
"""A decimal literal that may become a variable: not the size of an array, nor a part of a name or of a float. What is
not to change as a whole: a static constant, whose value has to be one.
"""
_A_CHARACTER, _A_NUMBER = 0.33, 7.0
"""Bytes of machine code (Cortex-M) for each character of C, and for each number that a call passes."""


class Shared(NamedTuple):
    """The function of a kernel, and what a call passes behind the arguments of the kernel."""

    text: str
    dimensions: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class _Source:
    kernel: Kernel
    text: str
    numbers: tuple[str, ...]
    dimensions: dict[str, int]


@dataclass(frozen=True)
class _Group:
    """Kernels that can share a function, with the parameter in the place of each number of its text, "" for none."""

    sources: Sequence[_Source]
    names: Sequence[str]

    @property
    def parameters(self) -> list[str]:
        return [name for name in dict.fromkeys(self.names) if name]

    @property
    def bytes(self) -> float:
        """About what the function and the numbers that are passed to it take."""
        characters = len("".join(self.sources[0].text.split()))
        return _A_CHARACTER * characters + _A_NUMBER * len(self.parameters) * len(self.sources)


def share(kernels: Sequence[Kernel]) -> dict[Kernel, Shared]:
    """The function of each kernel, in the same order."""
    found: dict[Kernel, Shared] = {}
    alike: dict[tuple[str, str], list[_Source]] = {}
    for kernel in kernels:
        text = kernel.source()
        found[kernel] = Shared(text)
        numbers = tuple(_NUMBER.findall(text))
        alike.setdefault((kernel.stem(), _NUMBER.sub("0", text)), []).append(
            _Source(kernel, text, numbers, kernel.dimensions()))
    for sources in alike.values():
        for group in _groups(sources):
            for part in _smallest(group):
                found |= _with_parameters(part) if part.parameters else {}
    return found


def _groups(sources: Sequence[_Source]) -> Iterator[_Group]:
    """Those of `sources`, whose texts are alike but for numbers, that have names for the numbers that differ."""
    names = []
    for values in zip(*(source.numbers for source in sources), strict=True):
        name = "" if len(set(values)) == 1 else _name(sources, values)
        if name is None:
            for part in _parts(sources, values):
                yield from _groups(part)
            return
        names.append(name)
    yield _Group(sources, names)


def _parts(sources: Sequence[_Source], values: Sequence[object]) -> list[list[_Source]]:
    """Those with the same of `values` together."""
    return [[source for source, value in zip(sources, values, strict=True) if value == one]
            for one in dict.fromkeys(values)]


def _name(sources: Sequence[_Source], values: Sequence[str]) -> str | None:
    """What all `sources` call their number of `values`, if they have a name for it that is free in the text."""
    names = [name for name in sources[0].dimensions if all(str(source.dimensions.get(name)) == value
                                                           for source, value in zip(sources, values, strict=True))]
    return next((name for name in names if not re.search(rf"\b{name}\b", sources[0].text)), None)


def _smallest(group: _Group) -> list[_Group]:
    """The group, or parts of it that take less: with a function of their own for each value of a parameter."""
    best, least = [group], group.bytes
    for name in group.parameters:
        values = [source.dimensions[name] for source in group.sources]
        parts = [part for some in _parts(group.sources, values) for part in _groups(some)]
        size = sum(part.bytes for part in parts)
        if size < least:
            best, least = parts, size
    return best if len(best) == 1 else [part for some in best for part in _smallest(some)]


def _with_parameters(group: _Group) -> dict[Kernel, Shared]:
    """The function of `group`, with parameters in the place of numbers that have a name; never inlined."""
    given, text, parameters = iter(group.names), group.sources[0].text, group.parameters
    text = _NUMBER.sub(lambda match: next(given) or match[0], text)
    declared = ", ".join(f"int32_t {name}" for name in parameters)
    text = text.replace(")\n{", f",\n    {declared})\n{{", 1).replace("static void ", f"static {NOINLINE} void ", 1)
    return {source.kernel: Shared(text, tuple(source.dimensions[name] for name in parameters))
            for source in group.sources}
