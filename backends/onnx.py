"""A module at graph level as an ONNX model: `tinyc model.onnx --quantize int8 --calibrate data.npz --emit onnx`.

    %q = qnn.quantize(%x) : tensor<1x8x8x3xi8, q<0.02:-5>>      QuantizeLinear(x, 0.02, -5)
    %d = qnn.dequantize(%q)                                     DequantizeLinear(q, 0.02, -5)
    %c = nn.conv2d(%d, %w, %b)                                  Conv(d, w, b)

Quantised models come out in QDQ form: onnxruntime (graph optimisation EXTENDED, session.qdqisint8allowed=1) computes
the bytes that the module computes. Images are NHWC here and NCHW there. A value is written in the layout in which it is
computed, and transposed once where someone wants the other; what is quantised is transposed as stored integers, so that
nothing stands between DequantizeLinear and the operator that it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from tinyir.diag import NamedLoc, error
from tinyir.ir import Array, Const, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Dequantize, Return
from tinyir.registry import BACKENDS
from tinyir.types import DType, Quant, Shape

if TYPE_CHECKING:
    import onnx

__all__ = ["Layout", "Writer", "emit_onnx"]

Layout = Literal["plain", "nchw"]
"""The order of axes that the module has, or channels in front for tensors of rank 4."""

OPSET = 17
_IR_VERSION = 8
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def emit_onnx(module: Module, *, name: str = "") -> dict[str, bytes]:
    """One file, `<name>.onnx`. Raises CompileError for a module below graph level and for ops that ONNX has not."""
    if module.level != "graph":
        raise error(f"ONNX can be written of a module at level graph; this one is at level {module.level}",
                    help="stop before fuse-quantized and lower-to-mem")
    return {f"{name or module.name}.onnx": Writer(module).model().SerializeToString()}


BACKENDS.add("onnx", emit_onnx)


class Writer:
    """Collects nodes and initialisers; knows under which names each value exists."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names: dict[tuple[Value, Layout], str] = {}
        self._shared: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()

    # -- the model -----------------------------------------------------------------------------------------------------

    def model(self) -> onnx.ModelProto:
        """The whole model."""
        import onnx
        from onnx import helper

        from .onnx_ops import WRITERS

        main = self.module.main
        inputs = [self._argument(argument) for argument in main.inputs]
        self._taken.update(main.result_names)
        for op in main.ops:
            if isinstance(op, Return):
                break
            write = WRITERS.get(type(op))
            if write is None:
                raise op.error("there is no ONNX operator for this op")
            write(self, op)
        outputs = [self._output(value, index) for index, value in enumerate(main.results)]
        graph = helper.make_graph(self.nodes, self.module.name, inputs, outputs, self.initializers)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="tinyc")
        made.ir_version = _IR_VERSION
        onnx.checker.check_model(made)
        return made

    def _argument(self, value: Value) -> onnx.ValueInfoProto:
        original = value.loc.name if isinstance(value.loc, NamedLoc) else value.name
        name = self.fresh(original)
        self._names[value, "plain"] = name
        return _info(name, value)

    def _output(self, value: Value, index: int) -> onnx.ValueInfoProto:
        """The function's result number `index`: what makes it takes on its name, if nobody else reads it."""
        names = self.module.main.result_names
        name = names[index] if index < len(names) else self.fresh(value.name)
        made = self.name(value)
        if self.nodes and self.nodes[-1].output[0] == made and len(value.uses) == 1:
            self.nodes[-1].output[0] = name
        else:
            self.node("Identity", [made], name)
            self.nodes[-1].output[0] = name
        return _info(name, value)

    # -- names ---------------------------------------------------------------------------------------------------------

    def fresh(self, stem: str) -> str:
        """A name that is not in use, near `stem`."""
        candidate, number = stem, 1
        while candidate in self._taken:
            candidate, number = f"{stem}_{number}", number + 1
        self._taken.add(candidate)
        return candidate

    def has(self, value: Value, layout: Layout) -> bool:
        """Whether `value` exists in this layout without a transpose."""
        if isinstance(value, Const) or (value, layout) in self._names:
            return True
        real = value.defining(Dequantize)
        return real is not None and self.has(real.x, layout)

    def name(self, value: Value, layout: Layout = "plain", rank: int | None = None) -> str:
        """The name of `value` in this layout. A constant gets `rank` dimensions, ones in front."""
        if isinstance(value, Const):
            return self.constant(_arranged(cast(Array, value.data), layout, rank), value.name)
        if (value, layout) in self._names:
            return self._names[value, layout]
        real = value.defining(Dequantize)
        if real is not None:
            source = self.name(real.x, layout, rank)
            made = self.dequantized(source, real.x.type.quant, real.x.type.dtype, value.name)
        else:
            perm = _TO_NCHW if layout == "nchw" else _TO_NHWC
            other = self._names[value, "plain" if layout == "nchw" else "nchw"]
            made = self.node("Transpose", [other], f"{value.name}_{'nchw' if layout == 'nchw' else 'nhwc'}", perm=perm)
        self._names[value, layout] = made
        return made

    def define(self, value: Value, layout: Layout, name: str) -> None:
        """`value` is what `name` holds, in this layout."""
        self._names[value, layout] = name

    def layout_for(self, *values: Value) -> Layout:
        """The layout to compute in, from operands: channels in front if one of them is so and all can be."""
        arrays = [v for v in values if not isinstance(v, Const) and not _constant(v)]
        if any(v.type.rank != 4 for v in arrays) or any(v.type.rank > 4 for v in values):
            return "plain"
        return "nchw" if any(self.has(v, "nchw") and not self.has(v, "plain") for v in arrays) else "plain"

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def node(self, op_type: str, inputs: list[str], stem: str, **attributes: Any) -> str:
        """Append a node with one output, called `stem` or nearly so; the output's name."""
        from onnx import helper

        name = self.fresh(stem)
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=f"{name}_{op_type}", **attributes))
        return name

    def result(self, op: Op, op_type: str, inputs: list[str], layout: Layout = "plain", **attributes: Any) -> str:
        """Append a node that computes the result of `op` in this layout."""
        made = self.node(op_type, inputs, op.results[0].name, **attributes)
        self.define(op.results[0], layout, made)
        return made

    def constant(self, data: Array, stem: str) -> str:
        """An initialiser; equal ones are one."""
        from onnx import numpy_helper

        data = np.asarray(data, order="C")
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._shared:
            self._shared[key] = self.fresh(stem)
            self.initializers.append(numpy_helper.from_array(data, self._shared[key]))
        return self._shared[key]

    def quantized(self, source: str, quant: Quant, dtype: DType, stem: str) -> str:
        """QuantizeLinear."""
        return self.node("QuantizeLinear", [source, *self._parameters(quant, dtype)], stem, **_axis(quant.axis))

    def dequantized(self, source: str, quant: Quant | None, dtype: DType, stem: str, axis: int | None = None) -> str:
        """DequantizeLinear; `axis` is where the axis of the scales has gone."""
        assert quant is not None
        axis = quant.axis if axis is None else axis
        return self.node("DequantizeLinear", [source, *self._parameters(quant, dtype)], stem,
                         **_axis(axis if quant.axis is not None else None))

    def _parameters(self, quant: Quant, dtype: DType) -> list[str]:
        scales, zeros = np.asarray(quant.scales, np.float32), np.asarray(quant.zero_points, dtype.numpy)
        if quant.axis is None:
            scales, zeros = scales.reshape(()), zeros.reshape(())
        else:
            zeros = np.broadcast_to(zeros, scales.shape)
        return [self.constant(scales, "scale"), self.constant(zeros, "zero_point")]

    def weight(self, value: Value, perm: tuple[int, ...], shape: Shape | None = None) -> str:
        """A constant operand with its axes in another order, quantised or not; then in another shape."""
        real = value.defining(Dequantize)
        stored = value if real is None else real.x
        data = stored.data
        if data is None:
            raise error(f"the weights %{value.name} are not known", loc=value.loc)
        turned = data.transpose(perm)
        name = self.constant(turned if shape is None else turned.reshape(shape), stored.name)
        if real is None:
            return name
        quant = cast(Quant, stored.type.quant)
        axis = None if quant.axis is None else perm.index(quant.axis)
        return self.dequantized(name, quant, stored.type.dtype, value.name, axis)


def _constant(value: Value) -> bool:
    """Whether `value` is the dequantization of a constant."""
    real = value.defining(Dequantize)
    return real is not None and isinstance(real.x, Const)


def _arranged(data: Array, layout: Layout, rank: int | None) -> Array:
    """A constant that takes part in an element-wise operation of tensors of `rank` dimensions."""
    if layout == "plain":
        return data
    return data.reshape((1,) * ((rank or 4) - data.ndim) + data.shape).transpose(_TO_NCHW)


def _axis(axis: int | None) -> dict[str, int]:
    return {} if axis is None else {"axis": axis}


def _info(name: str, value: Value) -> onnx.ValueInfoProto:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(value.type.dtype.numpy)
    return helper.make_tensor_value_info(name, kind, value.shape)


