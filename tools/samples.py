"""Inputs to compare on: from an .npz file, or random ones that are the same on every machine.

    kws_test.npz: input [180, 49, 10, 1], y [180]     180 samples of the input `input`, with labels
    images.npz:   x [500, 32, 32, 3] uint8            the only input of the model, whatever it is called

An array may hold samples with or without the model's batch axis: it must have a whole number of inputs' elements.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyir.diag import did_you_mean, error
from tinyir.ir import Array

from .program import Port, Sample

__all__ = ["NO_TRANSFORM", "RANDOM_SAMPLES", "Samples", "Transform", "beside", "load_samples", "random_samples"]

RANDOM_SAMPLES = 20
_SEED = 20240229
_ONLY_INPUT = "x"
_LABELS = "y"


@dataclass(frozen=True)
class Transform:
    """What to do to each element of the file before the model sees it: `value * scale + offset`."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, array: Array) -> Array:
        if self == Transform():
            return array
        scaled: Array = array.astype(np.float64) * self.scale + self.offset
        return scaled


NO_TRANSFORM = Transform()


@dataclass(frozen=True)
class Samples:
    """Inputs (one array a port, in order), one label each if there are any, and where they come from."""

    inputs: list[Sample]
    labels: Array | None = None
    source: str = "random"


def random_samples(ports: Sequence[Port], count: int = RANDOM_SAMPLES) -> Samples:
    """`count` samples: floats from the standard normal distribution, integers over the range of small types."""
    rng = np.random.Generator(np.random.PCG64(_SEED))
    return Samples([tuple(_random(rng, port) for port in ports) for _ in range(count)], None,
                   f"{count} random inputs")


def _random(rng: np.random.Generator, port: Port) -> Array:
    if port.dtype.is_float:
        return rng.standard_normal(port.shape).astype(port.dtype.numpy)
    if not port.dtype.is_integer:
        return rng.integers(0, 2, port.shape).astype(port.dtype.numpy)
    low, high = port.dtype.range if port.dtype.bits <= 8 else (0, 15)
    return rng.integers(low, high, port.shape, endpoint=True).astype(port.dtype.numpy)


def beside(model: str | Path) -> Path | None:
    """The file of test data that belongs to a model: `kws_test.npz` beside `kws.onnx`, if it is there."""
    path = Path(model)
    data = path.with_name(f"{path.stem}_test.npz")
    return data if data.is_file() else None


def load_samples(path: str | Path, ports: Sequence[Port], *, labels: str | None = None, limit: int | None = None,
                 transform: Transform = NO_TRANSFORM) -> Samples:
    """The samples of an .npz file. Raises CompileError where it does not fit the inputs `ports`."""
    arrays = _read(path)
    if labels is not None and labels not in arrays:
        raise error(f"{path} has no array {labels!r} for --labels", help=did_you_mean(labels, arrays))
    wanted = labels or (_LABELS if _LABELS in arrays and not any(p.name == _LABELS for p in ports) else None)
    columns = [_column(path, arrays, port, len(ports) == 1, transform) for port in ports]
    count = min((len(column) for column in columns), default=1)
    kept = count if limit is None else min(count, limit)
    rows = [tuple(column[index] for column in columns) for index in range(kept)]
    given = arrays[wanted].reshape(-1) if wanted is not None else None
    if given is not None and len(given) != count:
        if labels is None:
            given = None
        else:
            raise error(f"{path}: {labels!r} has {len(given)} labels for {count} samples")
    return Samples(rows, given[:kept] if given is not None else None, f"{kept} samples of {Path(path).name}")


def _read(path: str | Path) -> dict[str, Array]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, Mapping):
            raise error(f"{path} holds one array, not an archive of named ones", help="save it with numpy.savez")
        return {name: archive[name] for name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise error(f"cannot read {path}: {problem}", help="--data takes an .npz file (numpy.savez)") from problem


def _column(path: str | Path, arrays: Mapping[str, Array], port: Port, single: bool, transform: Transform) -> Array:
    """All samples of one input, [samples, *port.shape]."""
    name = port.name if port.name in arrays else _ONLY_INPUT if single and _ONLY_INPUT in arrays else None
    if name is None:
        raise error(f"{path} has no array for the input {port.name!r}", notes=(f"it has {', '.join(sorted(arrays))}",),
                    help=f"name the array after the input ({_ONLY_INPUT!r} will do for a model with one input)")
    array = arrays[name]
    if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
        raise error(f"{path}: {name} holds {array.dtype}, not numbers")
    inner = [extent for extent in port.shape if extent != 1]
    found = [extent for extent in array.shape[1:] if extent != 1]
    if array.ndim == 0 or array.size == 0 or (found != inner and array.shape[1:] != (math.prod(port.shape),)):
        wanted = f"the input {port.name!r} takes {_shape(port.shape)}"
        raise error(f"{path}: {name} has shape {_shape(array.shape)}, {wanted}",
                    help="the first axis counts samples, the others are those of the input")
    converted = transform.apply(array).astype(port.dtype.numpy)
    return converted.reshape(len(array), *port.shape)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
