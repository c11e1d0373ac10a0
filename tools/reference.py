"""What onnxruntime says: the outputs of a model on given inputs, and the tensors between its nodes.

    reference = Reference("kws.onnx")
    reference.run(samples)                       one tuple of outputs a sample
    reference.tensors(samples, names)            {tensor name: [array a sample]}
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyir.diag import error
from tinyir.ir import Array

from .program import Sample

__all__ = ["ModelPort", "Reference"]


@dataclass(frozen=True)
class ModelPort:
    """An input of the ONNX model; an extent is None where the file leaves it open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    """numpy's name of the element type."""


_NUMPY = {"float": "float32", "double": "float64"}


def _numpy_name(onnx_type: str) -> str:
    """numpy's name for onnxruntime's `tensor(float)`."""
    inner = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _NUMPY.get(inner, inner)


class Reference:
    """An onnxruntime session with one thread and every graph optimisation. Raises CompileError where it refuses."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._session = self._open(str(path))
        self.inputs = [ModelPort(i.name, tuple(d if isinstance(d, int) else None for d in i.shape),
                                 _numpy_name(i.type)) for i in self._session.get_inputs()]
        self.outputs = [o.name for o in self._session.get_outputs()]

    def _open(self, source: str | bytes, optimise: bool = True) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.qdqisint8allowed", "1")  # the integer path, for int8 too
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as problem:
            raise error(f"onnxruntime does not load {self.path}", notes=(str(problem).splitlines()[0],)) from problem

    def _feed(self, sample: Sample) -> dict[str, Array]:
        return {port.name: np.ascontiguousarray(array, dtype=port.dtype)
                for port, array in zip(self.inputs, sample, strict=True)}

    def run(self, samples: Sequence[Sample]) -> list[Sample]:
        """The outputs for each sample. Raises CompileError if onnxruntime fails."""
        return [tuple(self._call(self._session, None, sample)) for sample in samples]

    def run_in_float(self, samples: Sequence[Sample]) -> list[Sample]:
        """The same without graph optimisation, where quantised values are turned into floats and back at every node."""
        session = self._open(str(self.path), optimise=False)
        return [tuple(self._call(session, None, sample)) for sample in samples]

    def _call(self, session: Any, names: Sequence[str] | None, sample: Sample) -> list[Array]:
        try:
            found: list[Array] = session.run(names, self._feed(sample))
        except Exception as problem:
            raise error(f"onnxruntime fails on {self.path}", notes=(str(problem).splitlines()[0],)) from problem
        return found

    def seconds(self, sample: Sample, repeat: int) -> list[float]:
        """Times of `repeat` runs of one sample, after one that is not timed."""
        feed = self._feed(sample)
        self._session.run(None, feed)
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            self._session.run(None, feed)
            times.append(time.perf_counter() - start)
        return times

    def tensors(self, samples: Sequence[Sample]) -> tuple[dict[str, list[str]], dict[str, list[Array]]]:
        """(node name -> names of its outputs, tensor name -> one array a sample), for every node of the model.

        The session has no graph optimisation, so that no tensor disappears. Nodes without a name are called by their
        first output.
        """
        import onnx

        model = onnx.load(str(self.path), load_external_data=True)
        nodes = {(n.name or n.output[0]): [o for o in n.output if o] for n in model.graph.node if n.output}
        known = {o.name for o in model.graph.output}
        names = list(dict.fromkeys(name for outputs in nodes.values() for name in outputs))
        for name in names:
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
        session = self._open(model.SerializeToString(), optimise=False)
        values: dict[str, list[Array]] = {name: [] for name in names}
        for sample in samples:
            with contextlib.suppress(RuntimeWarning):
                for name, array in zip(names, self._call(session, names, sample), strict=True):
                    values[name].append(np.asarray(array))
        return nodes, values
