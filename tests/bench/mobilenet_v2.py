"""MobileNetV2 as an ONNX model with random weights, for figures of memory: `python tests/bench/mobilenet_v2.py FILE`.

    mobilenet_v2(1.0, 224)        float32, NCHW, batch norms folded, 300.8 M multiply-accumulates

The layers are those of Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018), table 2, with
channels rounded to multiples of 8 as in the authors' code. The weights come from a generator with a fixed seed and are
scaled so that activations keep their size; what the network computes means nothing. `samples` are images to calibrate
a quantisation with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["mobilenet_v2", "samples"]

_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions, stride of the first."""


@dataclass
class _Graph:
    """Nodes and weights so far."""

    generator: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, array: NDArray[np.float32]) -> str:
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, name: str, shape: tuple[int, ...], fan: int) -> str:
        """Weights with which a relu network keeps the size of its activations."""
        values = self.generator.standard_normal(shape) * np.sqrt(2 / fan)
        return self.constant(name, values.astype(np.float32))

    def conv(self, x: str, name: str, shape: tuple[int, int, int], stride: int = 1, *, group: int = 1,
             relu: bool = True) -> str:
        """A convolution of [outputs, inputs a group, kernel], bias, relu6."""
        outputs, inputs, kernel = shape
        weight = self.random(f"{name}.w", (outputs, inputs, kernel, kernel), inputs * kernel * kernel)
        bias = self.constant(f"{name}.b", self.generator.uniform(0, 0.1, outputs).astype(np.float32))
        y = self.add("Conv", [x, weight, bias], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, group=group,
                     pads=[kernel // 2] * 4)
        return self.add("Clip", [y, "zero", "six"], f"{name}.relu") if relu else y

    def bottleneck(self, x: str, name: str, channels: tuple[int, int], expansion: int, stride: int) -> str:
        """Expand, depthwise, project, and the residual where shapes agree."""
        inputs, outputs = channels
        wide = inputs * expansion
        y = self.conv(x, f"{name}.expand", (wide, inputs, 1)) if expansion > 1 else x
        y = self.conv(y, f"{name}.depthwise", (wide, 1, 3), stride, group=wide)
        y = self.conv(y, f"{name}.project", (outputs, wide, 1), relu=False)
        return self.add("Add", [x, y], f"{name}.sum") if stride == 1 and inputs == outputs else y


def _rounded(channels: float) -> int:
    """To a multiple of 8, not more than a tenth below."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found + 8 if found < 0.9 * channels else found


def mobilenet_v2(width: float = 1.0, size: int = 224, classes: int = 1000,
                 blocks: Sequence[tuple[int, int, int, int]] = _BLOCKS) -> onnx.ModelProto:
    """The network for images [1, 3, size, size], values about -1 ... 1; others with other `blocks`."""
    graph = _Graph(np.random.default_rng(2018))
    graph.constant("zero", np.array(0, np.float32))
    graph.constant("six", np.array(6, np.float32))
    channels = _rounded(32 * width)
    x = graph.conv("image", "stem", (channels, 3, 3), 2)
    for stage, (expansion, wanted, times, stride) in enumerate(blocks):
        outputs = _rounded(wanted * width)
        for index in range(times):
            step = stride if index == 0 else 1
            x = graph.bottleneck(x, f"stage{stage}.{index}", (channels, outputs), expansion, step)
            channels = outputs
    last = _rounded(1280 * max(1.0, width))
    x = graph.conv(x, "head", (last, channels, 1))
    x = graph.add("GlobalAveragePool", [x], "mean")
    x = graph.add("Flatten", [x], "features")
    bias = graph.constant("classifier.b", np.zeros(classes, np.float32))
    graph.add("Gemm", [x, graph.random("classifier.w", (classes, last), last), bias], "logits", transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])
    made = helper.make_graph(graph.nodes, "mobilenet_v2", [image], [logits], graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def samples(size: int, count: int = 4) -> NDArray[np.float32]:
    """Smooth random images [count, 3, size, size]."""
    generator = np.random.default_rng(7)
    coarse = generator.uniform(-1, 1, (count, 3, 8, 8))
    factor = -(-size // 8)
    fine = np.kron(coarse, np.ones((1, 1, factor, factor)))[:, :, :size, :size]
    return np.clip(fine + generator.normal(0, 0.1, fine.shape), -1, 1).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", metavar="FILE.onnx")
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of the channels (default 1.0)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default 224)")
    options = parser.parse_args()
    onnx.save(mobilenet_v2(options.width, options.size), options.file)


if __name__ == "__main__":
    main()
