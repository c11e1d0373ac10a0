"""Builds small quantised models, and compares what tinyc computes with onnxruntime's integer path, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tinyir.instrument import VerifyEach
from tinyir.interp import run
from tinyir.ir import Array, Module
from tinyir.pass_manager import PassManager, parse_pipeline
from tinyir.registry import FRONTENDS

Quantisation = tuple[Any, Any]
"""Scale and zero point; arrays of them where there is one for each channel. The zero point has the stored type."""
MICROSOFT = "com.microsoft"
S8, U8 = np.int8, np.uint8
INPUT = {S8: (0.03, S8(5)), U8: (0.03, U8(120))}
OTHER = {S8: (0.021, S8(-3)), U8: (0.021, U8(130))}
OUTPUT = {S8: (0.11, S8(-7)), U8: (0.11, U8(100))}
FROM_ZERO = {S8: (0.05, S8(-128)), U8: (0.05, U8(0))}
"""Quantisations of activations, by stored type."""


class Builder:
    """A model in the making: every method adds nodes and gives back the name of what they make."""

    def __init__(self, seed: int = 0, opset: int = 21) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, *shape: int, dtype: type[np.generic] = np.float32) -> str:
        name = self.name("x")
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape))
        return name

    def const(self, array: Any, stem: str = "c") -> str:
        name = self.name(stem)
        self.stored.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, **attrs)[0]

    def ops(self, kind: str, count: int, *inputs: str, domain: str = "", **attrs: Any) -> list[str]:
        names = [self.name(kind.lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}_{self._count}", domain=domain, **attrs))
        return names

    # -- quantisation ------------------------------------------------------------------------------------------------

    def parameters(self, quant: Quantisation) -> tuple[str, str]:
        """Scale and zero point as constants."""
        scale, zero = quant
        return self.const(np.asarray(scale, np.float32), "scale"), self.const(zero, "zero")

    def quantize(self, x: str, quant: Quantisation, **attrs: Any) -> str:
        return self.op("QuantizeLinear", x, *self.parameters(quant), **attrs)

    def dequantize(self, x: str, quant: Quantisation, **attrs: Any) -> str:
        return self.op("DequantizeLinear", x, *self.parameters(quant), **attrs)

    def both(self, x: str, quant: Quantisation) -> str:
        """Quantize and dequantize."""
        return self.dequantize(self.quantize(x, quant), quant)

    def random(self, dtype: Any, *shape: int) -> Array:
        """All integers of the type (i32: small ones)."""
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if info.bits == 8 else (-2000, 2000)
        return self.rng.integers(low, high, shape, endpoint=True).astype(dtype)

    def weight(self, *shape: int, dtype: Any = np.int8, axis: int | None = None, zero: Any = 0) -> str:
        """Random stored weights behind a dequantize."""
        stored = self.const(self.random(dtype, *shape), "weight")
        count = 1 if axis is None else shape[axis]
        scales = self.rng.uniform(0.002, 0.02, count).astype(np.float32)
        zeros = np.full(count, zero, dtype)
        if axis is None:
            return self.dequantize(stored, (scales[0], zeros[0]))
        return self.dequantize(stored, (scales, zeros), axis=axis)

    def bias(self, x: Quantisation, count: int, axis: int | None, zero: bool = True) -> str:
        """A random stored bias for the weights made last, behind a dequantize."""
        scales = np.float32(x[0]) * numpy_helper.to_array(self._last("scale")).reshape(-1)
        stored = self.const(self.random(np.int32, count), "bias")
        attrs = {} if axis is None else {"axis": 0}
        scale = self.const(scales[0] if axis is None else scales, "scale")
        zeros = [self.const(np.zeros(() if axis is None else count, np.int32), "zero")] if zero else []
        return self.op("DequantizeLinear", stored, scale, *zeros, **attrs)

    def floats(self, *shape: int, spread: float = 1.0) -> str:
        return self.const(self.rng.normal(0, spread, shape).astype(np.float32))

    def _last(self, stem: str) -> onnx.TensorProto:
        return next(t for t in reversed(self.stored) if t.name.startswith(stem))

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "small", self.inputs,
                                  [helper.make_empty_tensor_value_info(name) for name in outputs], self.stored)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8 if self.opset < 19 else 10)


def integer_session(model: onnx.ModelProto | str) -> onnxruntime.InferenceSession:
    """onnxruntime with its integer kernels, as DESIGN section 4 says."""
    source = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, integer_options(), providers=["CPUExecutionProvider"])


def integer_options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options


def random_inputs(model: onnx.ModelProto, seed: int, spread: float = 1.5) -> list[Array]:
    """Normal numbers for floats, every value of the type for integers."""
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for info in model.graph.input:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        arrays.append(rng.normal(0, spread, shape).astype(np.float32) if dtype.kind == "f" else
                      rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype))
    return arrays


def graph_part(level: str = "O2") -> str:
    """The passes of `level` in front of lower-to-mem."""
    return ",".join(str(p) for p in parse_pipeline(level)).partition(",lower-to-mem")[0]


def compiled(model: onnx.ModelProto, pipeline: str = "fuse-quantized") -> Module:
    module: Module = FRONTENDS.get("onnx")(model.SerializeToString())
    PassManager(parse_pipeline(pipeline), [VerifyEach()]).run(module)
    return module


def kinds(module: Module) -> list[str]:
    """The ops of the module but those that only move elements, sorted, without their dialect."""
    skipped = ("reshape", "transpose", "return", "slice", "pad", "reinterpret")
    return sorted(op.opname for op in module.walk() if op.opname.partition(".")[2] not in skipped)


def onnxruntime_kinds(model: onnx.ModelProto, folder: Path) -> list[str]:
    """The operators of onnxruntime's optimised graph, without quantize and dequantize."""
    options = integer_options()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(str(folder / "optimised.onnx")).graph.node
    return sorted(node.op_type for node in nodes if node.op_type not in ("QuantizeLinear", "DequantizeLinear"))


def close_bytes(model: onnx.ModelProto, step: float, seeds: Sequence[int] = (1, 2, 3)) -> Module:
    """As `same_bytes` where onnxruntime computes in float: its results differ by one `step` in few places at most."""
    session, module = integer_session(model), compiled(model)
    differences = []
    for seed in seeds:
        inputs = random_inputs(model, seed)
        wanted = session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))
        for found, expected in zip(run(module, inputs), wanted, strict=True):
            differences.append(np.abs(found.astype(np.float64) - expected).reshape(-1))
    every = np.concatenate(differences)
    assert every.max() <= 1.001 * step
    assert np.mean(every > 0.01 * step) <= 0.03
    return module


def same_bytes(model: onnx.ModelProto, seeds: Sequence[int] = (1, 2, 3), spread: float = 1.5) -> Module:
    """The module after fuse-quantized; it and what -O2 makes of it give onnxruntime's bytes on random inputs."""
    session = integer_session(model)
    module, optimised = compiled(model), compiled(model, graph_part())
    for seed in seeds:
        inputs = random_inputs(model, seed, spread)
        wanted = session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))
        for one in (module, optimised):
            for found, expected in zip(run(one, inputs), wanted, strict=True):
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected)
    return module

