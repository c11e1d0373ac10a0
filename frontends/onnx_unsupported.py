"""Says what is not supported: one table over the whole model, with what to do about each operator.

    error: 2 operators of mnist_lstm are not supported
      operator  domain   nodes  first node  what to do
      LSTM      ai.onnx      1  lstm_0      recurrent layers: not yet
      TopK      ai.onnx      2  TopK_7      not supported; leave it to the application, behind the network
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyir.diag import Diagnostic, Unsupported

__all__ = ["Row", "report", "why"]

_RECURRENT = "recurrent layers: not yet"
_TRANSFORMER = "transformers: not yet"
_DYNAMIC = "scales found at run time: not supported; quantise the model with static scales"
_CONTROL = "control flow: not supported; export with fixed shapes, or run onnxslim on the model"
_SEQUENCE = "sequences and optionals: not supported"
_TEXT = "strings: not supported"
_RANDOM = "random numbers: not supported; export the model in evaluation mode"
_TRAINING = "training: not supported; export the model in evaluation mode"
_SIGNAL = "signal processing: not yet; compute it in the application, before the network"
_POST = "post-processing with data-dependent shapes: leave it to the application, behind the network"
_OTHER = "not supported"

_REASONS: dict[str, str] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN", "CausalConvWithState", "LinearAttention"), _RECURRENT),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization", "Attention", "RotaryEmbedding", "TensorScatter",
                     "SwiGLU", "MultiHeadAttention", "SkipLayerNormalization", "SimplifiedLayerNormalization",
                     "FastGelu", "EmbedLayerNormalization", "BiasGelu"), _TRANSFORMER),
    **dict.fromkeys(("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat"), _DYNAMIC),
    **dict.fromkeys(("Loop", "Scan"), _CONTROL),
    **dict.fromkeys(("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
                     "SequenceLength", "SequenceMap", "SplitToSequence", "ConcatFromSequence", "Optional",
                     "OptionalGetElement", "OptionalHasElement"), _SEQUENCE),
    **dict.fromkeys(("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer",
                     "LabelEncoder"), _TEXT),
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
                     "Bernoulli"), _RANDOM),
    **dict.fromkeys(("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss", "Gradient", "Adam", "Adagrad",
                     "Momentum"), _TRAINING),
    **dict.fromkeys(("STFT", "DFT", "MelWeightMatrix", "HannWindow", "HammingWindow", "BlackmanWindow"), _SIGNAL),
    **dict.fromkeys(("NonMaxSuppression", "TopK", "Unique", "Compress", "NonZero"), _POST),
}


@dataclass(frozen=True)
class Row:
    """A node that is not supported, and why. `inputs`: the graph inputs that it would need as constants."""

    operator: str
    domain: str
    node: str
    reason: str
    inputs: tuple[str, ...] = ()


def why(operator: str, domain: str) -> str:
    """What to tell a user about an operator that has no converter."""
    known = _REASONS.get(operator)
    if known is not None or domain in ("", "ai.onnx"):
        return known or _OTHER
    return "an operator of another domain: express it with standard operators, or as a model-local function"


def report(model: str, rows: Sequence[Row]) -> Unsupported:
    """The error for all unsupported nodes of a model, equal ones in one line."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.operator, row.domain, row.reason), []).append(row)
    cells = [("operator", "domain", "nodes", "first node", "what to do")]
    cells += [(operator, domain or "ai.onnx", str(len(group)), _shortened(group[0].node), reason)
              for (operator, domain, reason), group in groups.items()]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    table = "\n".join(f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:<{widths[3]}}  {e}"
                      for a, b, c, d, e in cells)
    count = len({(row.operator, row.domain) for row in rows})
    subject = f"{count} operators of {model} are" if count > 1 else f"an operator of {model} is"
    bindable = all(row.inputs for row in rows)
    inputs = tuple(dict.fromkeys(name for row in rows for name in row.inputs)) if bindable else ()
    return Unsupported((Diagnostic("error", f"{subject} not supported\n{table}"),), inputs)


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."
