"""Trains a small CNN on 8x8 digits and writes it as ONNX: the model of the README.

    python -m pip install scikit-learn      # ships the data set: 1797 digits of 8x8 pixels
    python examples/train_digits.py         # writes digits_cnn.onnx and digits_cnn_test.npz beside this file

The network is trained in plain numpy, so that nothing else is needed, and takes about ten seconds. It has what an
exported network has: convolutions followed by BatchNormalization nodes that are not folded, depthwise-separable blocks,
pools, a dense layer and a softmax.

    [1, 1, 8, 8] -> conv 3x3, 16 -> separable 3x3, 32 -> max pool -> separable 3x3, 64 -> max pool -> dense -> softmax

Inputs are pixels divided by 16, so from 0 to 1. The same seed gives the same file on the same machine; another BLAS may
change the last bits of a sum, and so the weights, a little.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Nodes = list[tuple[str, dict[str, Array], dict[str, Any]]]  # ONNX operator, weights by name, attributes

NAMES = {"Conv": "conv", "BatchNormalization": "norm", "Relu": "relu", "MaxPool": "pool", "Flatten": "flatten",
         "Gemm": "dense", "Softmax": "softmax"}


class Layer:
    """A layer with its weights in `params` and, after `backward`, their gradients in `grads`."""

    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.params: list[Array] = []
        self.grads: list[Array] = []

    def forward(self, x: Array, training: bool) -> Array:
        """The output for `x`; keeps what `backward` needs."""
        raise NotImplementedError

    def backward(self, grad: Array) -> Array:
        """The gradient of the loss for the input, from that for the output."""
        raise NotImplementedError

    def nodes(self) -> Nodes:
        """The layer as ONNX nodes."""
        raise NotImplementedError


def windows(x: Array, size: int) -> Array:
    """Every size x size window of x [N, H, W, C], zeros around it: [N, H, W, C, size, size], a view."""
    pad = size // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))


class Conv(Layer):
    """y[n, h, w, o] = sum over i, j, c of x[n, h+i, w+j, c] * weight[c, i, j, o]; no bias, since a norm follows."""

    def __init__(self, rng: np.random.Generator, size: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.size = size
        scale = np.sqrt(2 / (size * size * inputs))
        self.params = [(rng.standard_normal((inputs, size, size, outputs)) * scale).astype(np.float32)]

    def forward(self, x: Array, training: bool) -> Array:
        self.x = windows(x, self.size)
        return np.tensordot(self.x, self.params[0], 3)

    def backward(self, grad: Array) -> Array:
        self.grads = [np.tensordot(self.x, grad, ((0, 1, 2), (0, 1, 2)))]
        flipped = self.params[0][:, ::-1, ::-1].transpose(3, 1, 2, 0)
        return np.tensordot(windows(grad, self.size), flipped, 3)

    def nodes(self) -> Nodes:
        pad = self.size // 2
        weight = self.params[0].transpose(3, 0, 1, 2)  # ONNX: [O, C, KH, KW]
        return [("Conv", {"weight": weight}, {"kernel_shape": [self.size] * 2, "pads": [pad] * 4})]


def per_channel(x: Array, weight: Array) -> Array:
    """The sum over i, j of x [N, H, W, C, i, j] * weight [C, i, j]."""
    return np.asarray(np.einsum("nhwcij,cij->nhwc", x, weight))


class Depthwise(Layer):
    """y[n, h, w, c] = sum over i, j of x[n, h+i, w+j, c] * weight[c, i, j]: each channel by itself, 3x3."""

    def __init__(self, rng: np.random.Generator, channels: int) -> None:
        super().__init__()
        self.params = [(rng.standard_normal((channels, 3, 3)) * np.sqrt(2 / 9)).astype(np.float32)]

    def forward(self, x: Array, training: bool) -> Array:
        self.x = windows(x, 3)
        return per_channel(self.x, self.params[0])

    def backward(self, grad: Array) -> Array:
        self.grads = [np.einsum("nhwcij,nhwc->cij", self.x, grad)]
        return per_channel(windows(grad, 3), self.params[0][:, ::-1, ::-1])

    def nodes(self) -> Nodes:
        weight = self.params[0][:, None]
        return [("Conv", {"weight": weight}, {"kernel_shape": [3, 3], "pads": [1] * 4, "group": len(weight)})]


class NormRelu(Layer):
    """Batch normalisation over all but the channels, then max(0, y)."""

    epsilon, momentum = np.float32(1e-5), np.float32(0.9)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.params = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]
        self.mean, self.variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x: Array, training: bool) -> Array:
        mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if training else (self.mean, self.variance)
        if training:
            self.mean = self.momentum * self.mean + (1 - self.momentum) * mean
            self.variance = self.momentum * self.variance + (1 - self.momentum) * variance
        self.deviation = np.sqrt(variance + self.epsilon)
        self.normal = (x - mean) / self.deviation
        self.y = np.asarray(np.maximum(self.normal * self.params[0] + self.params[1], 0))
        return self.y

    def backward(self, grad: Array) -> Array:
        grad = grad * (self.y > 0)
        self.grads = [(grad * self.normal).sum((0, 1, 2)), grad.sum((0, 1, 2))]
        count = np.float32(grad.size // grad.shape[-1])
        centred = grad - self.grads[1] / count - self.normal * self.grads[0] / count
        return np.asarray(centred * self.params[0] / self.deviation)

    def nodes(self) -> Nodes:
        weights = {"scale": self.params[0], "shift": self.params[1], "mean": self.mean, "variance": self.variance}
        return [("BatchNormalization", weights, {"epsilon": float(self.epsilon)}), ("Relu", {}, {})]


class MaxPool(Layer):
    """The greatest of each 2x2 square."""

    def forward(self, x: Array, training: bool) -> Array:
        n, h, w, c = x.shape
        squares = x.reshape(n, h // 2, 2, w // 2, 2, c)
        y: Array = squares.max((2, 4))
        self.first = squares == y[:, :, None, :, None]
        return y

    def backward(self, grad: Array) -> Array:
        n, h, w, c = grad.shape
        spread = self.first * grad[:, :, None, :, None]
        return np.asarray(spread).reshape(n, 2 * h, 2 * w, c)

    def nodes(self) -> Nodes:
        return [("MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2]})]


class Dense(Layer):
    """y[n, o] = bias[o] + sum over k of x[n, k] * weight[o, k]; x is flattened in ONNX's order, channels first."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        super().__init__()
        weight = rng.standard_normal((outputs, inputs)) * np.sqrt(1 / inputs)
        self.params = [weight.astype(np.float32), np.zeros(outputs, np.float32)]

    def forward(self, x: Array, training: bool) -> Array:
        self.shape = x.transpose(0, 3, 1, 2).shape
        self.x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        return np.asarray(self.x @ self.params[0].T + self.params[1])

    def backward(self, grad: Array) -> Array:
        self.grads = [grad.T @ self.x, grad.sum(0)]
        return np.asarray(grad @ self.params[0]).reshape(self.shape).transpose(0, 2, 3, 1)

    def nodes(self) -> Nodes:
        weights = {"weight": self.params[0], "bias": self.params[1]}
        return [("Flatten", {}, {}), ("Gemm", weights, {"transB": 1}), ("Softmax", {}, {"axis": -1})]


def network(rng: np.random.Generator) -> list[Layer]:
    """The layers, with random weights."""
    return [
        Conv(rng, 3, 1, 16), NormRelu(16),
        Depthwise(rng, 16), NormRelu(16), Conv(rng, 1, 16, 32), NormRelu(32), MaxPool(),
        Depthwise(rng, 32), NormRelu(32), Conv(rng, 1, 32, 64), NormRelu(64), MaxPool(),
        Dense(rng, 256, 10),
    ]


def run(layers: list[Layer], x: Array, training: bool = False) -> Array:
    """The logits [N, 10] of x [N, 8, 8, 1]."""
    for layer in layers:
        x = layer.forward(x, training)
    return x


class Adam:
    """The optimiser of Kingma and Ba (2015), with its usual constants."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.moments = [(np.zeros_like(p), np.zeros_like(p)) for layer in layers for p in layer.params]
        self.steps = 0

    def step(self, rate: float) -> None:
        """Change every weight, in place, by the gradients of the last `backward`."""
        self.steps += 1
        pairs = [pair for layer in self.layers for pair in zip(layer.params, layer.grads, strict=True)]
        correction = np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for (param, grad), (first, second) in zip(pairs, self.moments, strict=True):
            first += 0.1 * (grad - first)
            second += 0.001 * (grad * grad - second)
            param -= np.float32(rate * correction) * first / (np.sqrt(second) + np.float32(1e-8))


def train(layers: list[Layer], x: Array, y: Array, epochs: int, rng: np.random.Generator) -> None:
    """Minimise the cross-entropy with batches of 32 and a learning rate that falls to 0 along a cosine."""
    adam = Adam(layers)
    for epoch in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), len(x) // 32):
            logits = run(layers, x[batch], training=True)
            chances = np.exp(logits - logits.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            grad = (chances - np.eye(10, dtype=np.float32)[y[batch]]) / np.float32(len(batch))
            for layer in reversed(layers):
                grad = layer.backward(grad)
            adam.step(0.004 * (1 + np.cos(np.pi * epoch / epochs)) / 2)
        print(f"epoch {epoch + 1}: accuracy {accuracy(layers, x, y):.2%} on what it learns from", flush=True)


def accuracy(layers: list[Layer], x: Array, y: Array) -> float:
    """The share of digits that it recognises."""
    return float((run(layers, x).argmax(1) == y).mean())


def export(layers: list[Layer], path: Path) -> None:
    """Write the network as ONNX: input `image` [1, 1, 8, 8], output `digit` [1, 10]."""
    from onnx import NodeProto, TensorProto, checker, helper, numpy_helper, save

    every = [node for layer in layers for node in layer.nodes()]
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    value = "image"
    for index, (kind, params, attributes) in enumerate(every):
        name = f"{NAMES[kind]}{sum(n.op_type == kind for n in nodes) + 1}"
        weights += [numpy_helper.from_array(np.ascontiguousarray(a), f"{name}.{key}") for key, a in params.items()]
        output = "digit" if index == len(every) - 1 else f"{name}_out"
        inputs = [value, *(f"{name}.{key}" for key in params)]
        nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        value = output
    graph = helper.make_graph(
        nodes, "digits_cnn", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("digit", TensorProto.FLOAT, [1, 10])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    save(model, path)


def digits() -> tuple[Array, Array]:
    """The data set: x [1797, 8, 8, 1] from 0 to 1, y [1797]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] / 16).astype(np.float32), data.target.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the README's example network and write it as ONNX.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="the folder to write to")
    options = parser.parse_args()
    x, y = digits()
    rng = np.random.default_rng(2026)
    order = rng.permutation(len(x))
    test, learn = order[:360], order[360:]
    layers = network(rng)
    train(layers, x[learn], y[learn], options.epochs, rng)
    print(f"accuracy {accuracy(layers, x[test], y[test]):.2%} on {len(test)} digits that it has not seen")
    export(layers, options.output / "digits_cnn.onnx")
    np.savez_compressed(options.output / "digits_cnn_test.npz", image=x[test].transpose(0, 3, 1, 2), y=y[test])


if __name__ == "__main__":
    main()
