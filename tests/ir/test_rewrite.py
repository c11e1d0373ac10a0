"""Builder and Rewriter: uses, names and locations stay right, whatever is replaced."""

from __future__ import annotations

import numpy as np
import pytest

from tinyir import (
    UNKNOWN,
    CompileError,
    Context,
    FusedLoc,
    Module,
    NamedLoc,
    Op,
    Pass,
    PassManager,
    Rewriter,
    Type,
    Value,
    ops,
    parse,
    print_module,
    rewrites,
    verify,
)

TEXT = """
    module @m {
      func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
        %a = nn.relu(%x) : tensor<1x4xf32> loc("A")
        %b = nn.sigmoid(%a) : tensor<1x4xf32> loc("B")
        %c = nn.add(%b, %b) : tensor<1x4xf32> loc("C")
        nn.return(%c)
      }
    }"""


def start() -> tuple[Module, Rewriter, list[Op]]:
    module = parse(TEXT)
    return module, Rewriter(module, Context(), "test-pass"), list(module.main.ops)


def body(module: Module) -> list[str]:
    verify(module)
    text = print_module(module, facts="none")
    return [line.strip() for line in text.splitlines()[2:-2]]


def test_replace_by_an_op_takes_names_and_fuses_locations() -> None:
    module, rewriter, (relu, sigmoid, _, _) = start()
    assert isinstance(relu, ops.Relu)
    rewriter.replace(sigmoid, ops.Tanh(relu.x))
    assert body(module)[:2] == [
        '%b = nn.tanh(%x) : tensor<1x4xf32> loc(fused<"test-pass">["A", "B"])',
        '%c = nn.add(%b, %b) : tensor<1x4xf32> loc("C")']
    assert (relu.block, sigmoid.block, rewriter.changed) == (None, None, True)


def test_replace_keeps_producers_that_others_use() -> None:
    module, rewriter, (relu, sigmoid, _, ends) = start()
    rewriter.set_operand(ends, 0, relu.out)
    rewriter.replace(sigmoid, ops.Tanh(module.main.args[0]))
    assert len(body(module)) == 4
    assert module.main.ops[1].loc == NamedLoc("B")


def test_replace_by_a_value() -> None:
    module, rewriter, (_, _, add, _) = start()
    rewriter.replace(add, module.main.args[0])
    assert body(module) == ["nn.return(%x)"]


def test_replace_by_a_value_that_the_op_reads() -> None:
    module, rewriter, (relu, sigmoid, _, _) = start()
    rewriter.replace(sigmoid, relu.out)
    assert body(module)[1] == '%c = nn.add(%a, %a) : tensor<1x4xf32> loc("C")'


def test_replace_wants_as_many_values_as_results() -> None:
    _, rewriter, (_, sigmoid, _, ends) = start()
    with pytest.raises(ValueError, match="has 1 results, the replacement 0"):
        rewriter.replace(sigmoid, ())
    with pytest.raises(ValueError, match="still has uses"):
        rewriter.erase(sigmoid)
    rewriter.erase(ends)


def test_insertions_have_the_anchor_s_location_and_name() -> None:
    module, rewriter, (relu, sigmoid, _, _) = start()
    before = rewriter.insert_before(relu, ops.Neg(module.main.args[0]))
    rewriter.set_operand(relu, 0, before.out)
    after = rewriter.insert_after(sigmoid, ops.Exp(sigmoid.out), name="raised")
    rewriter.replace_uses(sigmoid.out, after.out)
    rewriter.set_operand(after, 0, sigmoid.out)
    assert body(module)[:5] == [
        '%a = nn.neg(%x) : tensor<1x4xf32> loc("A")',
        '%a_1 = nn.relu(%a) : tensor<1x4xf32> loc("A")',
        '%b = nn.sigmoid(%a_1) : tensor<1x4xf32> loc("B")',
        '%raised = nn.exp(%b) : tensor<1x4xf32> loc("B")',
        '%c = nn.add(%raised, %raised) : tensor<1x4xf32> loc("C")']


def test_constants_get_unique_valid_names() -> None:
    module, rewriter, _ = start()
    names = [rewriter.const(np.zeros(2, np.float32), name).name for name in ("conv1/weight:0", "conv1/weight:0", "1st")]
    assert names == ["conv1_weight_0", "conv1_weight_0_1", "c1st"]
    verify(module)
    assert module.drop_unused_consts() == 3


def test_set_attr() -> None:
    module, rewriter, (_, _, add, _) = start()
    rewriter.set_attr(add, act="relu")
    assert "{act = relu}" in body(module)[2]
    with pytest.raises(AttributeError, match=r"nn\.add has no attribute 'axis'"):
        rewriter.set_attr(add, axis=1)


def test_every_change_counts_as_a_new_version() -> None:
    module, rewriter, (relu, _, _, _) = start()
    versions = [module.version]
    rewriter.set_operand(relu, 0, module.main.args[0])
    versions.append(module.version)
    rewriter.insert_before(relu, ops.Neg(module.main.args[0]))
    versions.append(module.version)
    rewriter.const(np.zeros(1))
    versions.append(module.version)
    assert versions == sorted(set(versions))


class Around(Op, opname="sched.test_around"):
    """Has a region."""

    x: Value

    def infer(self) -> Type:
        return self.x.type


class End(Op, opname="sched.test_end"):
    value: Value
    terminator = True
    pure = False

    def infer(self) -> tuple[()]:
        return ()


def test_what_is_inside_a_removed_op_goes_too() -> None:
    module = parse("""
        module @m {level = sched} {
          func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
            %a = nn.relu(%x) : tensor<4xf32>
            %b = nn.abs(%x) : tensor<4xf32>
            %c = sched.test_around(%b) : tensor<4xf32> {
              %d = nn.add(%a, %x) : tensor<4xf32>
              sched.test_end(%d)
            }
            nn.return(%c)
          }
        }""")
    rewriter = Rewriter(module, Context(), "test-pass")
    rewriter.replace(module.main.ops[2], module.main.args[0])
    assert body(module) == ["nn.return(%x)"]


class ReluToClip(Pass):
    """Every nn.relu, and what that makes, until nothing changes."""

    name = "test-relu-to-clip"

    @rewrites(ops.Relu)
    def to_clip(self, relu: ops.Relu, rewriter: Rewriter) -> None:
        rewriter.remark(relu, "now a clip")
        rewriter.replace(relu, ops.Clip(relu.x, low=0.0))

    @rewrites(ops.Clip)
    def twice(self, clip: ops.Clip, rewriter: Rewriter) -> None:
        inner = clip.x.defining(ops.Clip)
        if inner is not None and inner.low == clip.low:
            rewriter.replace(clip, inner.out)


class PingPong(Pass):
    """Two rewrites that undo each other."""

    name = "test-ping-pong"

    @rewrites(ops.Relu)
    def there(self, op: ops.Relu, rewriter: Rewriter) -> None:
        rewriter.replace(op, ops.Abs(op.x))

    @rewrites(ops.Abs)
    def back(self, op: ops.Abs, rewriter: Rewriter) -> None:
        rewriter.replace(op, ops.Relu(op.x))


def test_rewrites_go_on_until_nothing_changes() -> None:
    module = parse(TEXT.replace("nn.sigmoid", "nn.relu"))
    ctx = PassManager([ReluToClip()]).run(module)
    assert [op.opname for op in module.main.ops] == ["nn.clip", "nn.add", "nn.return"]
    assert module.main.ops[0].loc == NamedLoc("A")
    assert [d.message for d in ctx.diagnostics] == ["test-relu-to-clip: now a clip"] * 2


def test_rewrites_without_end_are_reported() -> None:
    with pytest.raises(CompileError, match="test-ping-pong does not come to an end"):
        PassManager([PingPong()]).run(parse(TEXT))


def test_operands_are_uses() -> None:
    _, _, (relu, sigmoid, add, _) = start()
    assert [(use.op, use.index) for use in sigmoid.out.uses] == [(add, 0), (add, 1)]
    assert sigmoid.out.users == [add]
    assert sigmoid.out.only_user(ops.Add) is None
    assert relu.out.only_user(ops.Sigmoid) is sigmoid
    assert relu.out.only_user(ops.Add) is None
    assert sigmoid.out.defining(ops.Sigmoid) is sigmoid
    assert sigmoid.out.defining(ops.Relu) is None
    with pytest.raises(IndexError, match=r"nn.add has no operand 2"):
        add.replace_operand(2, None)


def test_clone_reads_what_the_mapping_says() -> None:
    module, _, (relu, sigmoid, _, _) = start()
    mapping: dict[Value, Value] = {relu.out: module.main.args[0]}
    copy = sigmoid.clone(mapping)
    assert copy.operands == [module.main.args[0]]
    assert (copy.loc, copy.out.type) == (sigmoid.loc, sigmoid.out.type)


def test_fused_locations_of_one_pass_are_flat() -> None:
    from tinyir import fuse

    inner = fuse("p", [NamedLoc("a"), NamedLoc("b")])
    assert fuse("p", [inner, UNKNOWN, NamedLoc("a"), NamedLoc("c")]) == \
        FusedLoc("p", (NamedLoc("a"), NamedLoc("b"), NamedLoc("c")))
    assert fuse("q", [inner]) == inner
    assert fuse("q", []) is UNKNOWN
