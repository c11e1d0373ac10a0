"""The verifier on modules that were made wrong in Python; wrong text is in tests/errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tinyir import (
    Argument,
    Block,
    Builder,
    CompileError,
    Func,
    Module,
    Op,
    TensorType,
    Value,
    dtype,
    ops,
    parse,
    verify,
)

F32 = dtype("f32")


class Careless(Op, opname="nn.test_careless"):
    """Its `infer` does not check what it needs."""

    x: Value

    def infer(self) -> TensorType:
        return TensorType((self.x.shape[3],), F32)


def chain() -> tuple[Module, list[Op]]:
    module = parse("""
        module @m {
          const @w : tensor<4x4xf32> = random<1>
          func @main(%x: tensor<1x4xf32>) -> tensor<1x4xf32> {
            %a = nn.dense(%x, @w) : tensor<1x4xf32>
            %b = nn.relu(%a) : tensor<1x4xf32>
            nn.return(%b)
          }
        }""")
    return module, module.main.ops


def messages(module: Module) -> list[str]:
    with pytest.raises(CompileError) as caught:
        verify(module)
    return [d.message for d in caught.value.diagnostics]


def test_accepts_a_good_module() -> None:
    verify(chain()[0])


def use_before_definition(module: Module, body: list[Op]) -> None:
    body[0], body[1] = body[1], body[0]


def removed_producer(module: Module, body: list[Op]) -> None:
    body.pop(0).block = None


def unregistered_const(module: Module, body: list[Op]) -> None:
    del module.consts["w"]


def other_key(module: Module, body: list[Op]) -> None:
    module.consts["v"] = module.consts.pop("w")


def missing_use(module: Module, body: list[Op]) -> None:
    body[0].out.uses.clear()


def stray_use(module: Module, body: list[Op]) -> None:
    ops.Relu(module.main.args[0])


def wrong_block(module: Module, body: list[Op]) -> None:
    body[1].block = Block()


def wrong_attribute(module: Module, body: list[Op]) -> None:
    body[0].__dict__["act"] = "rellu"


def foreign_argument(module: Module, body: list[Op]) -> None:
    body[1].replace_operand(0, Argument(TensorType((1, 4), F32), "other"))


def wrong_result_count(module: Module, body: list[Op]) -> None:
    body[1]._make_results([TensorType((1, 4), F32)] * 2)
    body[2].replace_operand(0, body[1].results[0])


def same_parameter_names(module: Module, body: list[Op]) -> None:
    module.main.block.args.append(Argument(TensorType((1, 4), F32), "x"))


def wrong_result_names(module: Module, body: list[Op]) -> None:
    module.main.result_names = ("a", "b")


def wrong_outputs(module: Module, body: list[Op]) -> None:
    module.main.outputs = 2


def wrong_level(module: Module, body: list[Op]) -> None:
    module.level = "graf"  # type: ignore[assignment]


@pytest.mark.parametrize(("damage", "message"), [
    (use_before_definition, "nn.relu uses %a, which nn.dense computes later or in another block"),
    (removed_producer, "nn.relu uses %a, the result of a nn.dense that is in no block"),
    (unregistered_const, "nn.dense uses the constant @w, which is not in the module"),
    (other_key, "the constant @w is registered as @v"),
    (missing_use, "the use list of %a is wrong: 0 entries, 1 uses"),
    (stray_use, "the use list of %x is wrong: 2 entries, 1 uses"),
    (wrong_block, "nn.relu stands in a block that it does not know of"),
    (wrong_attribute, "nn.dense: act should be one of none, relu, clip, leaky_relu, hard_swish, hard_sigmoid, "
                      "not rellu"),
    (foreign_argument, "nn.relu uses %other, which belongs to another function or region"),
    (wrong_result_count, "nn.relu has 1 results, declared are 2"),
    (same_parameter_names, "@main has two parameters called %x"),
    (wrong_result_names, "@main has 2 result names for 1 results"),
    (wrong_outputs, "@main has 1 parameters, 2 of them outputs"),
    (wrong_level, "level should be one of graph, quant, sched, mem, not graf"),
], ids=lambda value: getattr(value, "__name__", ""))
def test_reports(damage: Callable[[Module, list[Op]], None], message: str) -> None:
    module, body = chain()
    damage(module, body)
    assert message in messages(module)


def test_constant_of_another_shape() -> None:
    module = Module("m", funcs={"main": Func("main", Block())})
    module.add_const("w", np.zeros((2, 3), np.float32), type_=TensorType((3, 2), F32))
    Builder(module, module.main.block).add(ops.Return(()))
    assert messages(module) == ["@w is tensor<3x2xf32>, but its data is 2x3 float32"]


def test_a_bug_in_an_op_is_an_internal_error() -> None:
    module = parse("""
        module @m {
          func @main(%x: tensor<4xf32>) {
            %a = nn.test_careless(%x) : tensor<4xf32>
            nn.return(%a)
          }
        }""")
    with pytest.raises(CompileError) as caught:
        verify(module)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.severity == "internal"
    assert diagnostic.message == "nn.test_careless cannot be checked: IndexError: tuple index out of range"


def test_names_the_pass_and_stops_at_twenty() -> None:
    body = "\n".join(f"%a{i} = nn.relu(%x) : tensor<5xf32>" for i in range(30))
    module = parse(f"module @m {{ func @main(%x: tensor<4xf32>) {{ {body}\nnn.return(%x) }} }}")
    with pytest.raises(CompileError) as caught:
        verify(module, after="fuse")
    found = caught.value.diagnostics
    assert len(found) == 21
    assert {d.severity for d in found} == {"internal"}
    assert all(d.message.startswith("after pass fuse: ") for d in found)
    assert found[-1].message == "after pass fuse: and 10 more errors"
