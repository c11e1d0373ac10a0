"""Passes and pipelines: options as text, levels, analyses and their cache."""

from __future__ import annotations

from typing import Literal

import pytest

from tinyir import (
    Analysis,
    CompileError,
    Context,
    Instrument,
    Module,
    Pass,
    PassManager,
    Rewriter,
    ops,
    option,
    parse,
    parse_pipeline,
    print_pipeline,
    rewrites,
)

TEXT = """
    module @m {
      func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
        %a = nn.relu(%x) : tensor<4xf32>
        %b = nn.relu(%a) : tensor<4xf32>
        nn.return(%b)
      }
    }"""


class Tunable(Pass):
    """Has one option of each kind."""

    name = "test-tunable"
    align: int = option(16, "bytes")
    ratio: float = option(0.5, "how much")
    in_place: bool = option(True, "whether")
    order: Literal["size", "start"] = option("size", "which first")
    label: str = option("x", "a word")

    def run(self, module: Module, ctx: Context) -> None:
        ctx.stat("align", self.align)


class DropRelu(Pass):
    name = "test-drop-relu"
    level = "graph"

    @rewrites(ops.Relu)
    def drop(self, op: ops.Relu, rewriter: Rewriter) -> None:
        rewriter.replace(op, op.x)


class Lower(Pass):
    name = "test-lower"
    level = ("graph", "quant")
    to_level = "sched"

    def run(self, module: Module, ctx: Context) -> None:
        """Nothing to do: the ops are legal at both levels."""


class Idle(Pass):
    name = "test-idle"


class Fails(Pass):
    name = "test-fails"

    def run(self, module: Module, ctx: Context) -> None:
        raise RuntimeError("a bug")


@pytest.mark.parametrize("text", [
    "test-tunable",
    "test-tunable,test-drop-relu",
    "test-tunable{align=32}",
    "test-tunable{align=32,ratio=0.25,in-place=false,order=start,label=y}",
])
def test_pipelines_read_back(text: str) -> None:
    assert print_pipeline(parse_pipeline(text)) == text


def test_spaces_and_defaults_do_not_show() -> None:
    passes = parse_pipeline(" test-tunable { align = 16 , in-place=TRUE } , test-drop-relu ")
    assert passes == [Tunable(), DropRelu()]
    assert print_pipeline(passes) == "test-tunable,test-drop-relu"
    assert parse_pipeline("") == []


@pytest.mark.parametrize(("text", "message"), [
    ("test-tuneable", "there is no pass called 'test-tuneable'\nhelp: did you mean 'test-tunable'?"),
    ("test-tunable{algin=3}", "pass test-tunable has no option 'algin=3'\nhelp: did you mean 'align'?"),
    ("test-tunable{align}", "pass test-tunable has no option 'align'"),
    ("test-tunable{align=big}", "pass test-tunable: align should be a whole number, not 'big'"),
    ("test-tunable{ratio=big}", "ratio should be a number, not 'big'"),
    ("test-tunable{in-place=maybe}", "in-place should be true or false, not 'maybe'"),
    ("test-tunable{order=end}", "order should be size or start, not 'end'"),
    ("test-drop-relu{a=1}", "test-drop-relu takes no options"),
    ("test-tunable,", "there is a comma but no pass behind it"),
    ("test-tunable;test-lower", "cannot read 'test-tunable;test-lower'"),
    ("test-tunable{align=1", "cannot read"),
])
def test_pipelines_with_mistakes(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_pipeline(text)
    assert message in str(caught.value)


def test_passes_are_frozen_values() -> None:
    assert Tunable(align=8) == Tunable(align=8) != Tunable()
    with pytest.raises(AttributeError):
        Tunable().align = 3  # type: ignore[misc]


def test_levels() -> None:
    module = parse(TEXT)
    PassManager([Lower()]).run(module)
    assert module.level == "sched"
    with pytest.raises(CompileError, match="pass test-drop-relu needs a module at level graph, this one is at sched"):
        PassManager([DropRelu()]).run(module)


def test_statistics_belong_to_their_pass() -> None:
    assert PassManager([Tunable(align=4), DropRelu()]).run(parse(TEXT)).stats == {"test-tunable": {"align": 4}}


def test_a_pass_without_work_is_an_error() -> None:
    with pytest.raises(NotImplementedError, match="Idle has neither run"):
        PassManager([Idle()]).run(parse(TEXT))


class CountOps(Analysis[int]):
    calls = 0

    @classmethod
    def compute(cls, module: Module, ctx: Context) -> int:
        cls.calls += 1
        return len(list(module.walk()))


def test_analyses_are_kept_until_the_module_changes() -> None:
    module, ctx = parse(TEXT), Context()
    CountOps.calls = 0
    assert [ctx.analysis(CountOps, module), ctx.analysis(CountOps, module), CountOps.calls] == [3, 3, 1]
    PassManager([DropRelu()]).run(module, ctx)
    assert [ctx.analysis(CountOps, module), CountOps.calls] == [1, 2]
    assert [ctx.analysis(CountOps, parse(TEXT)), CountOps.calls] == [3, 3]


class Recorder(Instrument):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def start(self, module: Module, ctx: Context) -> None:
        self.seen.append("start")

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.seen.append(f"before {number} {pass_}")

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.seen.append(f"after {number}")

    def failed(self, number: int, pass_: Pass, module: Module, ctx: Context, problem: BaseException) -> None:
        self.seen.append(f"failed {number}: {problem}")

    def finish(self, module: Module, ctx: Context) -> None:
        self.seen.append("finish")


def test_instruments_are_told_everything() -> None:
    recorder = Recorder()
    PassManager([Tunable(align=8), DropRelu()], [recorder]).run(parse(TEXT))
    assert recorder.seen == ["start", "before 1 test-tunable{align=8}", "after 1", "before 2 test-drop-relu", "after 2",
                             "finish"]


def test_instruments_are_told_of_failures() -> None:
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="a bug"):
        PassManager([Fails()], [recorder]).run(parse(TEXT))
    assert recorder.seen == ["start", "before 1 test-fails", "failed 1: a bug"]
