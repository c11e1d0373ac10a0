"""What the repository ships as an example: the model is as good as the README says, and its script still makes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[1] / "examples"


def accuracy(model: Path, data: Path) -> float:
    """The share of the samples in `data` whose greatest output is the label."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (name,) = [i.name for i in session.get_inputs()]
    with np.load(data) as archive:
        images: NDArray[np.float32] = archive[name]
        labels: NDArray[np.uint8] = archive["y"]
    found = [session.run(None, {name: image[None]})[0].argmax() for image in images]
    return float((np.array(found) == labels).mean())


def test_model_recognises_digits_that_it_has_not_seen() -> None:
    assert accuracy(EXAMPLES / "digits_cnn.onnx", EXAMPLES / "digits_cnn_test.npz") >= 0.97


def test_files_are_small() -> None:
    assert (EXAMPLES / "digits_cnn_test.npz").stat().st_size < 60_000
    assert (EXAMPLES / "digits_cnn.onnx").stat().st_size < 150_000


def test_training_script_writes_a_model_that_learns(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the data set comes with scikit-learn")
    command = [sys.executable, str(EXAMPLES / "train_digits.py"), "--epochs", "1", "--output", str(tmp_path)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=one_thread)
    assert accuracy(tmp_path / "digits_cnn.onnx", tmp_path / "digits_cnn_test.npz") > 0.8
    with np.load(tmp_path / "digits_cnn_test.npz") as new, np.load(EXAMPLES / "digits_cnn_test.npz") as old:
        assert all(np.array_equal(new[key], old[key]) for key in ("image", "y"))
