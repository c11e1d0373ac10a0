"""Reads what the tools need out of ELF files: loadable segments, sections, symbols. Little-endian, 32 and 64 bits.

Layouts: Tool Interface Standard, Executable and Linking Format, version 1.2, and its 64-bit extension.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tinyir.diag import error

__all__ = ["Segment", "Symbol", "read_segments", "read_symbols", "section_sizes", "symbol_address"]


@dataclass(frozen=True)
class Segment:
    """A piece of memory to fill: `data` at `address`, zeros up to `size` bytes."""

    address: int
    data: bytes
    size: int


@dataclass(frozen=True)
class Symbol:
    """A name, its address and size in bytes, the index of its section (0: not defined here), and its binding (0: seen
    in its own file only)."""

    name: str
    address: int
    size: int
    section: int
    binding: int


@dataclass(frozen=True)
class _Header:
    wide: bool
    segments: tuple[int, int, int]  # offset, bytes an entry, entries
    sections: tuple[int, int, int]


def _header(image: bytes) -> _Header:
    if image[:4] != b"\x7fELF" or image[5] != 1:
        raise error("not a little-endian ELF file", notes=(f"it begins with {image[:6].hex()}",))
    wide = image[4] == 2
    fields = struct.unpack_from("<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH", image, 16)
    return _Header(wide, (fields[4], fields[8], fields[9]), (fields[5], fields[10], fields[11]))


def read_segments(image: bytes) -> list[Segment]:
    """The segments that a loader puts into memory, in file order."""
    header = _header(image)
    offset, step, count = header.segments
    found: list[Segment] = []
    for index in range(count):
        at = offset + index * step
        if header.wide:
            kind, _, start, address, _, filled, size = struct.unpack_from("<IIQQQQQ", image, at)
        else:
            kind, start, address, _, filled, size = struct.unpack_from("<IIIIII", image, at)
        if kind == 1 and size:
            found.append(Segment(address, image[start:start + filled], size))
    return found


def _sections(image: bytes) -> list[tuple[int, int, int, int]]:
    """(type, offset, size, link) of each section."""
    header = _header(image)
    offset, step, count = header.sections
    form = "<IIQQQQI" if header.wide else "<IIIIIII"
    rows = (struct.unpack_from(form, image, offset + i * step) for i in range(count))
    return [(row[1], row[4], row[5], row[6]) for row in rows]


def section_sizes(image: bytes) -> dict[str, int]:
    """Bytes of the sections that the program has in its memory, by name."""
    header = _header(image)
    offset, step, count = header.sections
    form = "<IIQQQQ" if header.wide else "<IIIIII"
    rows = [struct.unpack_from(form, image, offset + i * step) for i in range(count)]
    names = rows[struct.unpack_from("<H", image, 62 if header.wide else 50)[0]][4]
    found: dict[str, int] = {}
    for name, _, flags, _, _, size in rows:
        if flags & 2:
            text = image[names + name:image.index(b"\0", names + name)].decode()
            found[text] = found.get(text, 0) + size
    return found


def read_symbols(image: bytes) -> Iterator[Symbol]:
    """Every symbol of the symbol table."""
    wide = _header(image).wide
    sections = _sections(image)
    for kind, offset, size, link in sections:
        if kind != 2:
            continue
        names = sections[link]
        text = image[names[1]:names[1] + names[2]]
        for row in struct.iter_unpack("<IBBHQQ" if wide else "<IIIBBH", image[offset:offset + size]):
            yield _symbol(row, text, wide)


def _symbol(row: tuple[int, ...], text: bytes, wide: bool) -> Symbol:
    name = text[row[0]:text.index(b"\0", row[0])].decode()
    if wide:
        return Symbol(name, row[4], row[5], row[3], row[1] >> 4)
    return Symbol(name, row[1], row[2], row[5], row[3] >> 4)


def symbol_address(image: bytes, name: str) -> int:
    """The address of `name`. Raises CompileError if the image has no such symbol."""
    for symbol in read_symbols(image):
        if symbol.name == name and symbol.section:
            return symbol.address
    raise error(f"the image has no symbol {name}")
