"""The optimisation levels: the one place to see the order of everything.

-O0 keeps the model as it is written: what is quantised is computed on integers, pairs of transposes that meet are
    dropped, each operator becomes a kernel, buffers share memory. For looking at one layer at a time, and for telling
    a bug in a pass from one elsewhere.
-O1 folds and fuses: no batch normalisation, no activation on its own behind a convolution, no transpose between layers,
    no channel of a quantised layer that is constant or that nobody reads.
-O2 is the default: what -O1 does, and then a schedule, the one with the least RAM among those that compute nothing
    twice and are at most 5 % slower than the fastest, by modelled instructions: layers row by row, in strips, or for
    some channels at a time, in the order that needs the least.
-O3 takes the fastest of these schedules, with weights in a form that takes more room where that is faster; -Os the one
    with the least code; --ram limits either.

In front of these, for --quantize int8:
quantize-int8 brings a float model to the form that integers want (activations stay ops of their own: they say where a
    range ends) and stores it as integers; search-int8 tries several ways to do that. What follows is what an imported
    quantised model goes through. float-graph and quantised-graph are what --emit onnx writes of other models.
"""

from __future__ import annotations

from tinyir.registry import PIPELINES

_LAYOUT = "fuse-quantized,canonicalize,fold-constants,layout-nhwc,canonicalize"
_FUSE = "recognise-activations,fold-batch-norm,fold-scale,fuse-pad,fuse-activation,sink-resize," \
    "fold-constants,canonicalize,dead-channels,fuse-concat"
_LOWER = "expand-patches,lower-to-mem,plan-arena"
_FIT = "expand-patches,lower-to-mem,fit-scratch,plan-arena"

_LEVELS = {
    "O0": f"fuse-quantized,layout-nhwc{{push=false}},{_LOWER}",
    "O1": f"{_LAYOUT},{_FUSE},{_LOWER}",
    "O2": f"{_LAYOUT},{_FUSE},order,schedule{{speed=5%}},{_FIT}",
    "O3": f"{_LAYOUT},{_FUSE},order,schedule{{ram=any,weights=fast}},{_FIT}",
    "Os": f"{_LAYOUT},{_FUSE},order,schedule{{ram=any,flash=min}},{_FIT}",
}

_PREPARE = "canonicalize,fold-constants,layout-nhwc,canonicalize,recognise-activations,fold-batch-norm,fold-scale," \
    "fuse-pad,sink-resize,fold-constants,canonicalize"
_FINISH = "nudge-scales,measure-error,move-stored"

_GRAPHS = {
    "quantize-int8": f"{_PREPARE},equalize-layers,calibrate,quantize,round-weights,{_FINISH}",
    "search-int8": f"{_PREPARE},search-quantization,{_FINISH}",
    "float-graph": _PREPARE,
    "quantised-graph": "layout-nhwc,move-stored",
}

for _name, _text in {**_LEVELS, **_GRAPHS}.items():
    PIPELINES.add(_name, _text)
