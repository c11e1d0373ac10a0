"""Samples to quantise with: `--calibrate FILE.npz`, read sample by sample.

    calib.npz: image [500, 32, 32, 3]        500 samples of the input `image` (`x` will do for the only input)

Arrays stay in the file: only one sample of each is in memory at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from tinyir.diag import CompileError, did_you_mean, error
from tinyir.ir import Array, Value
from tinyir.types import Shape

from .program import Port
from .samples import NO_TRANSFORM, Transform

__all__ = ["Calibration"]

_ONLY_INPUT = "x"
_TURNS = ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))


@dataclass(frozen=True)
class Calibration:
    """The samples of an .npz file for the inputs `ports` of a model, as its file has them."""

    path: str
    ports: tuple[Port, ...]
    transform: Transform = NO_TRANSFORM

    def samples(self, inputs: Sequence[Value]) -> Iterator[list[Array]]:
        """One array for each of `inputs`, which are the ports with their axes perhaps in another order.

        Raises CompileError where the file does not fit the ports, or holds what no range can be found of.
        """
        with self._open() as archive:
            columns = [_Column(self.path, archive, self._key(archive, port), port, self.transform)
                       for port in self.ports]
            counts = {column.name: column.count for column in columns}
            if len(set(counts.values())) > 1:
                raise error(f"{self.path}: the arrays have different numbers of samples",
                            notes=[f"{name} has {count}" for name, count in counts.items()])
            for number in range(columns[0].count if columns else 0):
                yield [_turned(column.read(number), value.shape)
                       for column, value in zip(columns, inputs, strict=True)]

    def _open(self) -> zipfile.ZipFile:
        if not Path(self.path).exists():
            raise error(f"there is no file {self.path}", help="--calibrate takes an .npz file (numpy.savez)")
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as problem:
            raise error(f"cannot read {self.path}: {problem}",
                        help="--calibrate takes an .npz file (numpy.savez)") from problem

    def _key(self, archive: zipfile.ZipFile, port: Port) -> str:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if port.name in names:
            return port.name
        if len(self.ports) == 1 and _ONLY_INPUT in names:
            return _ONLY_INPUT
        raise error(f"{self.path} has no array for the input {port.name!r}",
                    notes=(f"it has {', '.join(sorted(names)) or 'nothing'}",),
                    help=did_you_mean(port.name, names) or "name each array after its input")


class _Column:
    """The samples of one input, read one after the other."""

    def __init__(self, path: str, archive: zipfile.ZipFile, name: str, port: Port, transform: Transform) -> None:
        self.path, self.name, self.port, self.transform = path, name, port, transform
        try:
            self._stream = archive.open(f"{name}.npy")
            shape, fortran, self.dtype = _header(self._stream)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile, EOFError) as problem:
            raise self._error(f"cannot be read: {problem}") from problem
        self.count = self._check(shape)
        self._inner = shape[1:]
        self._whole = self._all(shape) if fortran else None

    def _error(self, message: str, help: str | None = None) -> CompileError:
        return error(f"{self.path}: {self.name} {message}", help=help)

    def _check(self, shape: Shape) -> int:
        """The number of samples. Raises CompileError for a shape or an element type that the input does not have."""
        wanted = "x".join(map(str, self.port.shape)) or "a scalar"
        if self.dtype.kind not in "fiub":
            raise self._error(f"holds {self.dtype}, not numbers")
        if not shape or shape[0] == 0:
            raise self._error("is empty: there are no samples to calibrate with")
        inner, found = ([d for d in dims if d != 1] for dims in (self.port.shape, shape[1:]))
        if found != inner and list(shape[1:]) != [int(np.prod(self.port.shape))]:
            raise self._error(f"has shape {'x'.join(map(str, shape))}, the input {self.port.name!r} takes {wanted}",
                              "the first axis counts samples, the others are those of the input")
        return shape[0]

    def _all(self, shape: Shape) -> Array:
        data = np.frombuffer(self._stream.read(), self.dtype)
        return data.reshape(shape[::-1]).transpose()

    def read(self, number: int) -> Array:
        """Sample `number`, which is the next one."""
        if self._whole is not None:
            raw: Array = self._whole[number]
        else:
            size = int(np.prod(self._inner)) * self.dtype.itemsize
            data = self._stream.read(size)
            if len(data) != size:
                raise self._error(f"ends in sample {number}")
            raw = np.frombuffer(data, self.dtype)
        return self._converted(self.transform.apply(raw), number)

    def _converted(self, raw: Array, number: int) -> Array:
        wanted = self.port.dtype
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise self._error(f"has a value that is not finite (nan or inf) in sample {number}")
        if wanted.is_integer and raw.dtype.kind == "f" and (raw != np.rint(raw)).any():
            raise self._error(f"holds fractions in sample {number}, the input {self.port.name!r} takes {wanted}")
        if wanted.is_integer and (raw.min() < wanted.range[0] or raw.max() > wanted.range[1]):
            raise self._error(f"has values from {raw.min()} to {raw.max()} in sample {number}; the input is {wanted}")
        return raw.astype(wanted.numpy).reshape(self.port.shape)


def _header(stream: IO[bytes]) -> tuple[Shape, bool, np.dtype[np.generic]]:
    """Shape, order and element type of the array that begins in `stream`."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def _turned(array: Array, shape: Shape) -> Array:
    """The array with its axes in the order that has `shape` (--input-layout)."""
    if array.shape == shape:
        return array
    return next(np.ascontiguousarray(t) for p in _TURNS if (t := array.transpose(p)).shape == shape)
