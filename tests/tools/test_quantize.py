"""`tinyc --quantize int8`: files that come out, what is reported, and what is said about bad samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tinyc.tools.calibration import Calibration
from tinyc.tools.program import Port

from tinyir.diag import CompileError
from tinyir.ir import Argument, Array
from tinyir.types import I8, TensorType

from .conftest import Run, conv_net


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A float classifier."""
    path = tmp_path / "net.onnx"
    net = conv_net()
    onnx.save(net, path)
    return str(path)


def input_shape(model: str) -> tuple[int, ...]:
    """The shape of the model's only input."""
    [port] = onnx.load(model).graph.input
    return tuple(d.dim_value for d in port.type.tensor_type.shape.dim)


def images(model: str, count: int = 24) -> Array:
    """Samples with the batch axis left out."""
    rng = np.random.Generator(np.random.PCG64(1))
    return rng.normal(0.2, 1, (count, *input_shape(model)[1:])).astype(np.float32)


def saved(folder: Path, **arrays: Array) -> str:
    """An .npz file."""
    path = folder / "samples.npz"
    np.savez(path, **arrays)
    return str(path)


def test_c_equals_onnxruntime(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    """The C of the quantised model gives the bytes of the quantised ONNX model, whichever side of the boundary."""
    data = saved(tmp_path, image=images(model))
    for io in ("float", "int8"):
        answer = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--io", io, "--check", "-o",
                           f"{tmp_path}/{io}/")
        assert answer.status == 0, answer.err
        assert "check ok" in answer.err
        header = (tmp_path / io / "net.h").read_text()
        assert ("net_run(const float *" if io == "float" else "net_run(const int8_t *") in header


def test_report(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    """--report has the error of each value; the table names the worst; -v shows all."""
    data, report = saved(tmp_path, x=images(model)), tmp_path / "report.json"
    answer = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--report", str(report), "-v", "-o",
                       f"{tmp_path}/out/")
    assert answer.status == 0, answer.err
    facts = json.loads(report.read_text())["quantisation"]
    assert facts["layers"] == facts["layers_proved"] == 3
    assert facts["output_sqnr_db"][0] > 20
    assert {"value", "op", "nodes", "sqnr_db", "own_db"} == set(facts["values"][0])
    assert "most is lost at" in answer.err
    assert "nn.depthwise_conv2d" in answer.err or "nn.clip" in answer.err


def test_search(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    """--search says what it tried."""
    data, report = saved(tmp_path, x=images(model)), tmp_path / "report.json"
    answer = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--search", "--report", str(report), "-o",
                       f"{tmp_path}/out/")
    assert answer.status == 0, answer.err
    tried = json.loads(report.read_text())["quantisation"]["tried"]
    assert len(tried) == 12
    assert tried[0]["sqnr_db"] == max(attempt["sqnr_db"] for attempt in tried)


def test_onnx_out_and_in_again(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    """What --emit onnx writes is a quantised model: compiled, it is integers throughout."""
    data, made = saved(tmp_path, x=images(model)), tmp_path / "net_int8.onnx"
    answer = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--emit", "onnx", "-o", str(made))
    assert answer.status == 0, answer.err
    kinds = {node.op_type for node in onnx.load(made).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= kinds
    again = run_tinyc(str(made), "--check", "-o", f"{tmp_path}/out/")
    assert again.status == 0, again.err
    assert "check ok" in again.err
    refused = run_tinyc(str(made), "--quantize", "int8", "--calibrate", data, "-o", f"{tmp_path}/out/")
    assert refused.status == 1
    assert "this model is quantised already" in refused.err


def test_keep_float(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    data = saved(tmp_path, x=images(model))
    answer = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--keep-float", "conv1", "--emit", "ir",
                       "--stop-after", "fuse-quantized", "-o", "-")
    assert answer.status == 0, answer.err
    assert "nn.conv2d(" in answer.out.replace("qnn.conv2d(", "")
    wrong = run_tinyc(model, "--quantize", "int8", "--calibrate", data, "--keep-float", "conv11", "-o", f"{tmp_path}/")
    assert wrong.status == 1
    assert "did you mean 'conv1'?" in wrong.err


@pytest.mark.parametrize(("options", "message"), [
    (("--quantize", "int8"), "--quantize needs samples of the inputs"),
    (("--calibrate", "x.npz"), "--calibrate goes with --quantize int8"),
    (("--quantize", "int4"), "int4"),
    (("--quantize", "int8", "--calibrate", "x.npz", "--search", "--calibration", "mse"), "leave --calibration out"),
])
def test_usage(run_tinyc: Run, model: str, options: tuple[str, ...], message: str) -> None:
    answer = run_tinyc(model, *options)
    assert answer.status == 2
    assert message in answer.err


def bad_samples(model: str) -> dict[str, tuple[dict[str, Array], str]]:
    """Arrays that cannot be calibrated with, and what is said about each."""
    good = images(model)
    hole = good.copy()
    hole[3, 0, 0, 0] = np.nan
    return {
        "name": ({"picture": good}, "has no array for the input 'image'"),
        "shape": ({"x": good[:, :, :5]}, "the input 'image' takes"),
        "nan": ({"x": hole}, "x has a value that is not finite (nan or inf) in sample 3"),
        "empty": ({"x": good[:0]}, "x is empty"),
        "text": ({"x": np.asarray(["a", "b"])}, "not numbers"),
    }


@pytest.mark.parametrize("case", ["name", "shape", "nan", "empty", "text"])
def test_bad_samples(run_tinyc: Run, model: str, tmp_path: Path, case: str) -> None:
    """A clear error, and no files."""
    arrays, message = bad_samples(model)[case]
    answer = run_tinyc(model, "--quantize", "int8", "--calibrate", saved(tmp_path, **arrays), "-o", f"{tmp_path}/out/")
    assert answer.status == 1
    assert message in answer.err
    assert not (tmp_path / "out").exists()


def test_unreadable_samples(run_tinyc: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    for name, message in (("bad.npz", "cannot read"), ("none.npz", "there is no file")):
        answer = run_tinyc(model, "--quantize", "int8", "--calibrate", str(tmp_path / name), "-o", f"{tmp_path}/out/")
        assert answer.status == 1
        assert message in answer.err


def test_integer_inputs(tmp_path: Path) -> None:
    """Samples of an integer input are whole numbers of its range, in whichever order they are stored."""

    def read(array: Array) -> list[Array]:
        port, value = Port("x", (1, 2), I8), Argument(TensorType((1, 2), I8))
        return [sample[0] for sample in Calibration(saved(tmp_path, x=array), (port,)).samples([value])]

    assert read(np.asarray([[1.0, -3.0]]))[0].dtype == np.int8
    assert [array.tolist() for array in read(np.asfortranarray([[1, 2], [3, 4]]))] == [[[1, 2]], [[3, 4]]]
    with pytest.raises(CompileError, match="fractions"):
        read(np.asarray([[0.5, 1.0]]))
    with pytest.raises(CompileError, match="from 1 to 300"):
        read(np.asarray([[1, 300]]))
