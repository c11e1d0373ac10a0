"""What calls of the C write, recorded and beside onnxruntime: nodes in float, removed channels, small memories."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tinyc.tools import recording
from tinyc.tools.all_tensors import IntegerGraph, Report
from tinyc.tools.driver import Compiled, Emission, Job, compile_job
from tinyc.tools.emulator import emulators_present
from tinyc.tools.exact import compare_c_directly
from tinyc.tools.program import Sample
from tinyc.tools.toolchain import routes_present

from tests.contract import same_bytes
from tests.frontends.quantised import FROM_ZERO, INPUT, OUTPUT, S8, Builder

from .conftest import Run

need_core = pytest.mark.skipif(not emulators_present() or not routes_present("cortex-m4"),
                               reason="no emulator or no compiler")


def samples(count: int) -> list[Sample]:
    rng = np.random.default_rng(1)
    return [(rng.normal(0, spread, (1, 4, 8, 8)).astype(np.float32),) for spread in np.linspace(0.3, 2, count)]


def with_a_mean(saturated: bool = False) -> onnx.ModelProto:
    """Two layers with a mean between them, which onnxruntime computes in float; `saturated`: some channels of the first
    are -128 for every input."""
    b = Builder(seed=3)
    x = b.both(b.input(1, 4, 8, 8), INPUT[S8])
    weight = b.weight(12, 4, 3, 3, axis=0)
    bias = b.bias(INPUT[S8], 12, axis=0)
    if saturated:
        stored = next(t for t in b.stored if t.name.startswith("bias"))
        values = np.array(numpy_helper.to_array(stored))
        values[[2, 7, 8]] = -(1 << 28)
        stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    y = b.both(b.op("Conv", x, weight, bias, pads=[1, 1, 1, 1]), FROM_ZERO[S8])
    mean = b.op("ReduceMean", y, b.const(np.array([2, 3], np.int64)), keepdims=1)
    z = b.op("Conv", b.both(mean, FROM_ZERO[S8]), b.weight(8, 12, 1, 1, axis=0))
    return b.model(b.both(z, OUTPUT[S8]))


def compiled_and_saved(model: onnx.ModelProto, folder: Path, target: str = "generic") -> Compiled:
    path = folder / "small.onnx"
    onnx.save(model, str(path))
    return compile_job(Job(str(path), target=target, layerwise=True))


def compared(compiled: Compiled, count: int = 30) -> Report:
    inputs = samples(count)
    return compare_c_directly(compiled, Emission("model"), IntegerGraph(Path(compiled.job.source)), inputs, inputs)


@same_bytes
@pytest.mark.parametrize("saturated", [False, True])
def test_onnxruntime_goes_on_from_the_c_behind_a_node_in_float(saturated: bool, tmp_path: Path) -> None:
    compiled = compiled_and_saved(with_a_mean(saturated), tmp_path)
    report = compared(compiled)
    calls = recording.kernel_calls(compiled.module)
    assert (report.mismatches, report.first_mismatch, report.unmatched) == (0, None, [])
    assert len(report.no_integer_kernel) == 1
    assert report.tensors == len(calls)
    channels = {op.writes[0].shape[-1] for op in calls}
    assert (9 in channels) is saturated


@same_bytes
@pytest.mark.parametrize("kind", ["LogSoftmax", "Erf", "Transpose"])
def test_other_nodes_between_layers(kind: str, tmp_path: Path) -> None:
    """Ones that onnxruntime computes in float, and one that moves stored values: what follows them is compared."""
    b = Builder(seed=4)
    y = b.both(b.op("Conv", b.both(b.input(1, 4, 8, 8), INPUT[S8]), b.weight(8, 4, 3, 3, axis=0)), OUTPUT[S8])
    attrs = {"LogSoftmax": {"axis": 1}, "Transpose": {"perm": [0, 1, 3, 2]}}.get(kind, {})
    z = b.both(b.op(kind, y, **attrs), OUTPUT[S8])
    compiled = compiled_and_saved(b.model(b.both(b.op("Conv", z, b.weight(5, 8, 3, 3)), OUTPUT[S8])), tmp_path)
    report = compared(compiled)
    assert (report.mismatches, report.unmatched) == (0, [])
    stored = [op for op in recording.kernel_calls(compiled.module) if op.writes[0].type.dtype.bits == 8]
    assert report.tensors >= len(stored)


@same_bytes
@pytest.mark.parametrize("broken", [False, True])
def test_layers_of_stored_integers(broken: bool, run_check: Run, monkeypatch: pytest.MonkeyPatch,
                                   tmp_path: Path) -> None:
    """`--layers` shows how many of a layer's bytes differ, not how far integers are from floats."""
    path = tmp_path / "small.onnx"
    onnx.save(with_a_mean(), str(path))
    if broken:
        monkeypatch.setattr("tinyc.tools.exact.different_bytes", lambda ours, theirs: 1)
    found = json.loads(run_check(path, "--layers", "--json", "--samples", "3").out)["layers"]
    assert found["compared"] == len(found["all"]) > 2
    stored = {layer["mismatches"] for layer in found["all"] if layer["max_abs_error"] is None}
    assert stored == {3 if broken else 0}
    assert (found["first_wrong"] is not None) is broken


@same_bytes
def test_what_lies_behind_is_compared(tmp_path: Path) -> None:
    """The C is of another model than onnxruntime's: the last layer has other weights."""
    compiled = compiled_and_saved(with_a_mean(), tmp_path)
    model = with_a_mean()
    last = [t for t in model.graph.initializer if t.name.startswith("weight")][-1]
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last)[::-1].copy(), last.name))
    onnx.save(model, compiled.job.source)
    report = compared(compiled, 3)
    assert report.mismatches > 0
    assert report.first_mismatch is not None
    assert "Conv_" in report.first_mismatch


@need_core
@pytest.mark.parametrize("room", [64, 1000])
def test_recording_in_windows(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that holds a part of the tensors only runs each sample several times, and gives the same."""
    compiled = compiled_and_saved(with_a_mean(), tmp_path, "cortex-m4")
    program = compiled.c_program(Emission("model", hooks=True))
    calls = recording.kernel_calls(compiled.module)
    inputs = samples(2)
    whole = list(recording.record(program, calls, inputs, None, "", "cortex-m4"))
    monkeypatch.setattr(recording, "room_for", lambda *_: room)
    parts = list(recording.record(program, calls, inputs, None, "", "cortex-m4"))
    assert len(whole) == len(parts) == 2
    for one, other in zip(whole, parts, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert sum(op.writes[0].type.size_bytes for op in calls) > 1000


def test_nothing_to_record(tmp_path: Path) -> None:
    compiled = compiled_and_saved(with_a_mean(), tmp_path)
    assert compared(compiled, 0).values == 0
