"""Prices of kernels: every one has them, they follow what is computed, and they are near what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tinyc.backends.c.cost_table import CODE, COEFFICIENTS
from tinyc.backends.c.costs import QUANTITIES, parents_of, text_size, variant_of, work_of
from tinyc.backends.c.kernels.base import Kernel
from tinyc.tools.bench import BenchSettings, measure_core
from tinyc.tools.cli import Progress
from tinyc.tools.driver import Compiled, Job, compile_job

from tinyir.costs import Cost, CostModel, kernel_cost
from tinyir.opdef import Op
from tinyir.ops import Return
from tinyir.registry import COSTS, OPS, PIPELINES, load_plugins
from tinyir.target import target_named

DIGITS = Path(__file__).parents[2] / "examples" / "digits_cnn.onnx"
M4 = target_named("cortex-m4")


def graph_ops() -> list[Op]:
    """The ops of the example, as they are lowered."""
    load_plugins()
    passes = PIPELINES.get("O1").replace(",lower-to-mem,plan-arena", "")
    module = compile_job(Job(str(DIGITS), target="cortex-m4", passes=passes)).module
    return [op for op in module.main.ops if not isinstance(op, Return)]


def compiled(passes: str = "") -> Compiled:
    pipeline = PIPELINES.get("O1").replace("lower-to-mem", f"{passes}lower-to-mem")
    return compile_job(Job(str(DIGITS), target="cortex-m4", passes=pipeline))


def kernels(of: Compiled) -> list[Op]:
    return [op for op in of.module.walk() if isinstance(op, Kernel)]


def test_every_kernel_has_a_price() -> None:
    load_plugins()
    missing = [name for name, kind in OPS.items() if issubclass(kind, Kernel) and COSTS.find(name) is None]
    assert missing == []


def test_the_table_has_all_quantities_and_nothing_negative() -> None:
    for table in COEFFICIENTS.values():
        assert "other" in table
        assert all(len(row) == len(QUANTITIES) and min(row) >= 0 for row in table.values())
    assert all(len(row) == 3 for row in CODE.values())
    assert set(CODE) == set(COEFFICIENTS)


def test_a_price_is_looked_up_from_the_special_to_the_general() -> None:
    assert parents_of("k.conv2d_dsp i8 paired run") == [
        "k.conv2d_dsp i8 paired run", "k.conv2d_dsp i8 paired", "k.conv2d_dsp i8", "k.conv2d_dsp", "other"]


def test_asking_leaves_no_trace() -> None:
    ops = graph_ops()
    before = [len(value.uses) for op in ops for value in op.results]
    model = CostModel(M4)
    for op in ops:
        model.of(op)
    assert [len(value.uses) for op in ops for value in op.results] == before


def test_rows_cost_more_than_the_whole_and_copies_on_top() -> None:
    model = CostModel(M4)
    conv = next(op for op in graph_ops() if op.opname == "nn.conv2d")
    whole, rows, kept = model.of(conv), model.of(conv, 1), model.of(conv, 1, kept=True)
    assert whole.instructions > conv.macs()
    assert rows.instructions >= whole.instructions
    assert kept.instructions > rows.instructions
    assert model.of(conv, 4).instructions <= rows.instructions


def test_functions_that_are_shared_count_once() -> None:
    one, other = Cost(10, functions=frozenset({("f", 100), ("g", 20)})), Cost(5, functions=frozenset({("g", 20)}))
    assert (one + other).code_bytes == 120
    assert (one + other).instructions == 15


def test_the_work_of_a_paced_kernel_is_that_of_all_its_steps() -> None:
    streamed = [op for op in kernels(compiled("stream,")) if getattr(op, "pace", None) is not None]
    assert streamed
    for op in streamed:
        work = work_of(op)  # type: ignore[arg-type]
        assert 1 <= work.calls <= work.rows
        assert work.macs >= 0


def test_text_size_takes_the_assembly_not_its_twin() -> None:
    text = 'f()\n{\n    __asm__("add r0, r1\\n" "bx lr\\n");\n}\n#else\nint much_longer_twin_of_it(int a);\n#endif\n'
    lines, characters = text_size(text)
    assert lines == 2
    assert characters < 20


def test_parts_are_counted_as_often_as_they_run() -> None:
    found = compiled()
    total = CostModel(M4).module(found.module)
    assert total.instructions == sum(kernel_cost(op, M4).instructions for op in kernels(found))
    assert total.const_bytes == found.facts.const_bytes


@pytest.mark.parametrize("passes", ["", "stream,", "stream{rows=2},"])
def test_modelled_is_near_counted(passes: str) -> None:
    pytest.importorskip("unicorn")
    found = compiled(passes)
    report = measure_core(found, "net", BenchSettings(emulator="unicorn"), Progress("test", enabled=False))
    modelled = CostModel(M4).module(found.module)
    assert modelled.instructions == pytest.approx(report.instructions, rel=0.2)
    assert modelled.code_bytes == pytest.approx(report.code_bytes, rel=0.5)


def test_kernels_have_names_to_be_priced_by() -> None:
    for op in kernels(compiled()):
        assert variant_of(op).startswith(f"{op.opname} ")  # type: ignore[arg-type]
