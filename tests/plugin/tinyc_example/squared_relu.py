"""An op that tinyc does not have, max(0, x)^2 (So et al., "Primer", 2021), found in a graph and written out again.

    %r = nn.relu(%x)  %y = nn.mul(%r, %r)   <->   %y = acme.squared_relu(%x)

`recognise-squared-relu` goes to the right, for a backend that has such a kernel; `expand-squared-relu` to the left.
"""

from __future__ import annotations

from tinyir import Array, Op, Pass, Rewriter, TensorType, Value, ops, rewrites


class SquaredRelu(Op, opname="acme.squared_relu", levels=("graph",)):
    """y = max(0, x)^2, element by element."""

    x: Value

    def infer(self) -> TensorType:
        return TensorType(self.x.shape, self.x.type.dtype)

    def reference(self, x: Array) -> Array:
        positive: Array = x.clip(min=0)
        return positive * positive


class RecogniseSquaredRelu(Pass):
    """Turn nn.mul(%r, %r) of %r = nn.relu(%x) into acme.squared_relu(%x)."""

    name = "recognise-squared-relu"
    level = "graph"

    @rewrites(ops.Mul)
    def recognise(self, op: ops.Mul, rewriter: Rewriter) -> None:
        relu = op.a.defining(ops.Relu)
        if relu is not None and op.a is op.b and op.act == "none":
            rewriter.replace(op, SquaredRelu(relu.x))


class ExpandSquaredRelu(Pass):
    """Turn acme.squared_relu(%x) into nn.mul(%r, %r) of %r = nn.relu(%x), for which every backend has a kernel."""

    name = "expand-squared-relu"
    level = "graph"

    @rewrites(SquaredRelu)
    def expand(self, op: SquaredRelu, rewriter: Rewriter) -> None:
        relu = rewriter.insert_before(op, ops.Relu(op.x))
        rewriter.replace(op, ops.Mul(relu.out, relu.out))
