"""How good quantised float models are, beside onnxruntime's quantizer: `python tests/bench/quantize.py [MODEL ...]`.

    QUANTIZE.md, quantize.json        beside this file

For each model of ../shared: accuracy where there are labels, and the signal-to-noise ratio of the outputs in dB.
Where one set has to serve for both, every second sample calibrates, the ratio is over those in between, and the
accuracy over all. Columns: the float model; `--quantize int8`; the same with `--search`; onnxruntime's quantize_static
on the same calibration data (QDQ, int8, per channel; its preprocessing first). All int8 models run in onnxruntime's
integer path; that the C and the interpreter give the same bytes is tested elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tinyc.tools.cli import table
from tinyc.tools.driver import Job, Quantization, compile_job

from tinyir.ir import Array
from tinyir.registry import BACKENDS

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared"

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A model, where its samples come from, and what is to be done to them."""

    model: str
    calibration: str
    test: str
    prepare: Callable[[Array], Array] = np.float32
    key: str = "x"
    labels: str | None = "y"

    @property
    def path(self) -> Path:
        return SHARED / "models" / f"{self.model}.onnx"

    def samples(self, name: str) -> Array:
        """All samples of a file, as the model takes them, batch axis of one included."""
        with np.load(SHARED / "data" / f"{name}.npz") as archive:
            made = np.asarray(self.prepare(archive[self.key]), np.float32)
        session = _session(self.path)
        return made.reshape(len(made), *session.get_inputs()[0].shape)

    def true_classes(self) -> Array | None:
        if self.labels is None:
            return None
        with np.load(SHARED / "data" / f"{self.test}.npz") as archive:
            return np.asarray(archive[self.labels])


def _nchw(x: Array) -> Array:
    return x.transpose(0, 3, 1, 2)


def _imagenet(x: Array) -> Array:
    return _nchw((x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])


CASES = (
    Case("resnet8_f32", "cifar10_calib500", "cifar10_test500"),
    Case("kws_dscnn_f32", "kws_speech_commands180", "kws_speech_commands180"),
    Case("kws_dscnn_bn_f32", "kws_speech_commands180", "kws_speech_commands180"),
    Case("micro_kws_f32", "micro_features180", "micro_features180", labels="y_micro_kws"),
    Case("vww_mobilenetv1_f32", "person_images_96", "person_images_96", lambda x: _nchw(x / 255)),
    Case("textdir_mbv3_f32", "textdir_rendered24", "textdir_rendered24", lambda x: _nchw((x / 255 - 0.5) / 0.5),
         labels=None),
    Case("mcunet_det_f32", "det_images_160x128", "det_images_160x128", _imagenet, labels=None),
    Case("denoise_unet_resize_f32", "denoise32", "denoise32", key="noisy", labels=None),
)


def _session(model: str | Path | bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def outputs(model: str | Path | bytes, samples: Array) -> list[list[Array]]:
    """The outputs for each sample."""
    session = _session(model)
    name = session.get_inputs()[0].name
    return [session.run(None, {name: sample}) for sample in samples]


def sqnr(wanted: list[list[Array]], found: list[list[Array]]) -> float:
    """Mean over the outputs of their signal-to-noise ratios over all samples, in dB."""
    ratios = []
    for index in range(len(wanted[0])):
        w, f = (np.stack([sample[index] for sample in all_]).astype(np.float64) for all_ in (wanted, found))
        ratios.append(10 * np.log10((w**2).sum() / max(float(((w - f) ** 2).sum()), 1e-30)))
    return float(np.mean(ratios))


def accuracy(found: list[list[Array]], labels: Array) -> float:
    """Share of samples with the right class, in percent."""
    return 100 * float(np.mean([sample[0].argmax() == label for sample, label in zip(found, labels, strict=True)]))


def ours(case: Case, calibration: Path, search: bool) -> tuple[bytes, Row]:
    """The model that tinyc quantises, as ONNX, and what it says about it."""
    start = time.perf_counter()
    quantization = Quantization("int8", str(calibration), search=search)
    compiled = compile_job(Job(str(case.path), quantization=quantization, graph_only=True))
    data = next(iter(BACKENDS.get("onnx")(compiled.module, name="model").values()))
    stats = compiled.context.stats
    proof = stats["nudge-scales"]
    row = {"seconds": round(time.perf_counter() - start, 1), "layers": proof["layers"],
           "layers_proved_in_two_instructions": proof["layers-in-two-instructions"]}
    if search:
        row["chosen"] = stats["search-quantization"]["best"]
    return data, row


def theirs(case: Case, samples: Array, folder: Path) -> Path:
    """The model that onnxruntime quantises."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = _session(case.path).get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows: Iterator[Array] = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            row = next(self.rows, None)
            return None if row is None else {name: row}

    prepared, made = folder / "prepared.onnx", folder / "ort.onnx"
    quant_pre_process(str(case.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)
    return made


def measure(case: Case) -> Row:
    """One line of the table."""
    test, labels = case.samples(case.test), case.true_classes()
    shared = case.calibration == case.test
    calibration = test[::2] if shared else case.samples(case.calibration)
    fresh = slice(1, None, 2) if shared else slice(None)
    plain = outputs(case.path, test)
    row: Row = {"model": case.model, "samples": len(test), "calibration_samples": len(calibration)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calibration.npz"
        np.savez(file, x=calibration)
        models: dict[str, Any] = {}
        for key, search in (("tinyc", False), ("tinyc_search", True)):
            models[key], row[f"{key}_facts"] = ours(case, file, search)
        models["onnxruntime"] = theirs(case, calibration, Path(folder))
        found = {key: outputs(model, test) for key, model in models.items()}
    if labels is not None:
        row["accuracy"] = {key: round(accuracy(o, labels), 2) for key, o in (("float", plain), *found.items())}
    row["sqnr_db"] = {key: round(sqnr(plain[fresh], o[fresh]), 1) for key, o in found.items()}
    return row


def as_table(rows: Sequence[Row]) -> str:
    """For people."""
    columns = ("float", "tinyc", "tinyc_search", "onnxruntime")
    lines: list[tuple[str, ...]] = [("model", "accuracy: float", "tinyc", "--search", "onnxruntime", "SQNR: tinyc",
                                     "--search", "onnxruntime", "layers proved")]
    for row in rows:
        hits = [f"{row['accuracy'][c]:.1f} %" if "accuracy" in row else "" for c in columns]
        noise = [f"{row['sqnr_db'][c]:.1f} dB" for c in columns[1:]]
        facts = row["tinyc_facts"]
        lines.append((row["model"], *hits, *noise, f"{facts['layers_proved_in_two_instructions']}/{facts['layers']}"))
    return table(lines, right=range(1, 9))


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="only these")
    wanted = parser.parse_args(arguments).models
    store = HERE / "quantize.json"
    known: dict[str, Row] = {r["model"]: r for r in json.loads(store.read_text())} if store.exists() else {}
    for case in CASES:
        if not wanted or case.model in wanted:
            known[case.model] = measure(case)
            print(as_table([known[case.model]]), flush=True)
    rows = [known[case.model] for case in CASES if case.model in known]
    store.write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "QUANTIZE.md").write_text(f"# Quantised float models\n\n```text\n{as_table(rows)}\n```\n")
    print(as_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
