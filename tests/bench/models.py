"""The models of `../shared/models` and the real data that goes with each: one table for tests and benchmarks.

    model = MODELS["resnet8_f32"]
    arrays = model.arrays()            {"input": [500, 32, 32, 3], "y": [500]}, or None where there is no real data

What each model expects is written in `../shared/models/MANIFEST.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODELS", "QUANTISED", "SHARED", "Model"]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
Array = NDArray[Any]
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def _plain(x: Array) -> Array:
    return x.astype(np.float32)


def _first(x: Array) -> Array:
    """[N, H, W, C] -> [N, C, H, W]."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32)


@dataclass(frozen=True)
class Model:
    """One model: its input, the file of real inputs, how they are prepared, and whether it puts inputs into classes."""

    name: str
    input: str
    data: str | None = None
    prepare: Callable[[Array], Array] = _plain
    key: str = "x"
    labels: str | None = None
    classifies: bool = False
    seconds: float = 2.0
    """The most that ONNX to C may take where no schedule is chosen (-O1)."""

    @property
    def path(self) -> Path:
        """The model's file; it may be absent."""
        return SHARED / "models" / f"{self.name}.onnx"

    def arrays(self) -> dict[str, Array] | None:
        """Inputs as the model takes them, and labels `y` where there are any."""
        if self.data is None:
            return None
        with np.load(SHARED / "data" / f"{self.data}.npz") as archive:
            found = {self.input: self.prepare(archive[self.key])}
            if self.labels is not None:
                found["y"] = archive[self.labels]
        return found


def _images(scale: float, offset: float = 0.0) -> Callable[[Array], Array]:
    return lambda x: _first(x.astype(np.float32) * np.float32(scale) + np.float32(offset))


_KWS = "kws_speech_commands180"
_ALL = (
    Model("ad_autoencoder_f32", "input"),
    Model("denoise_unet_resize_f32", "input", "denoise32", key="noisy"),
    Model("face_slim320_f32", "input", "face_images_320x240", lambda x: _first((x.astype(np.float32) - 127) / 128),
          seconds=5.0),
    Model("hello_world_f32", "input"),
    Model("kws_conv1d_f32", "input", _KWS, lambda x: np.ascontiguousarray(x[..., 0].transpose(0, 2, 1)), labels="y",
          classifies=True),
    Model("kws_dscnn_f32", "input", _KWS, labels="y", classifies=True),
    Model("kws_dscnn_bn_f32", "input", _KWS, labels="y", classifies=True),
    Model("mbv2_w035_144_f32", "input", classifies=True, seconds=5.0),
    Model("mcunet_det_f32", "input", "det_images_160x128",
          lambda x: _first((x.astype(np.float32) / 255 - _MEAN) / _DEVIATION)),
    Model("micro_kws_f32", "serving_default_input:0", "micro_features180", labels="y_micro_kws", classifies=True),
    Model("proxyless_w030_176_f32", "input", classifies=True, seconds=5.0),
    Model("resnet8_f32", "input", "cifar10_test500", labels="y", classifies=True),
    Model("textdir_mbv3_f32", "x", "textdir_rendered24", _images(2 / 255, -1.0), labels="y", classifies=True),
    Model("vww_mobilenetv1_f32", "input", "person_images_96", _images(1 / 255), labels="y", classifies=True),
)
MODELS = {model.name: model for model in _ALL}


def _stored(scale: float, zero: int) -> Callable[[Array], Array]:
    """Real values as a model with an int8 input takes them."""
    return lambda x: np.clip(np.rint(x / np.float32(scale) + zero), -128, 127).astype(np.int8)


def _bytes(x: Array) -> Array:
    return (x.astype(np.int16) - 128).astype(np.int8)


_QUANTISED = (
    Model("ad_autoencoder_int8", "input"),
    Model("hello_world_int8", "input"),
    Model("kws_dscnn_int8", "input", _KWS, _stored(0.584702909, 83), labels="y", classifies=True),
    Model("kws_dscnn_int8_tf2onnx", "input_1", _KWS, _stored(0.584702909, 83), labels="y", classifies=True),
    Model("mbv2_w035_144_ortq_int8", "input", classifies=True),
    Model("mcunet_det_int8", "input", "det_images_160x128",
          lambda x: _first((x.astype(np.float32) / 255 - _MEAN) / _DEVIATION)),
    Model("mcunetv2_large_int8", "input", classifies=True),
    Model("micro_kws_qop_int8", "serving_default_input:0", "micro_features180", labels="y_micro_kws", classifies=True),
    Model("micro_speech_int8", "input", "micro_features180", _stored(0.101715684, -128), labels="y_micro_speech",
          classifies=True),
    Model("mnist_lenet300_int8", "input", "mnist_test500", lambda x: (x.astype(np.float32) / 255)[..., None],
          labels="y", classifies=True),
    Model("resnet8_int8", "input", "cifar10_test500", _bytes, labels="y", classifies=True),
    Model("resnet8_ortq_u8s8", "input", "cifar10_test500", labels="y", classifies=True),
    Model("vww_mobilenetv1_int8", "input", "person_images_96", _bytes, labels="y", classifies=True),
)
QUANTISED = {model.name: model for model in _QUANTISED}
