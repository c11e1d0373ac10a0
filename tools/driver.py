"""From a file to a module to a backend's files: what `tinyc`, `tinyc-opt` and `tinyc-check` have in common.

    job = Job("kws.onnx", level="2", target="cortex-m4")
    compiled = compile_job(job)          loaded, all passes run, facts gathered on the way
    compiled.c_program()                 the C files and what NAME_run takes
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tinyir.diag import CompileError, did_you_mean, error, origins
from tinyir.ir import LEVELS, Level, Module, Value
from tinyir.pass_manager import Context, Instrument, Pass, PassManager, parse_pipeline, print_pipeline
from tinyir.registry import BACKENDS, FRONTENDS, PASSES, PIPELINES, load_file
from tinyir.target import target_named

from .cli import Parser, Progress
from .facts import Facts, GraphFacts, gather_facts
from .limits import NO_LIMITS, Limits, with_limits
from .memory_fit import check_fit
from .options import pairs
from .program import Port, Program, program_of
from .reference_model import ReferenceModel
from .rows import takes_wholes
from .samples import NO_TRANSFORM, Transform

__all__ = ["Compiled", "Emission", "Job", "Quantization", "compile_job", "is_internal", "job_of",
           "layer_by_layer", "load_module", "make_passes", "symbol_of"]


@dataclass(frozen=True)
class Emission:
    """How the C is written."""

    name: str
    arena: str = "static"
    hooks: bool = False
    marks: bool = False
    single_file: bool = False
    sections: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantization:
    """How to quantise a float model, and what to take at the boundary of one that is quantised."""

    scheme: str | None = None
    calibrate: str | None = None
    method: str | None = None
    search: bool = False
    keep_float: tuple[str, ...] = ()
    io: str | None = None
    transform: Transform = NO_TRANSFORM

    @property
    def options_text(self) -> list[str]:
        """The options, as they are recorded in the generated files."""
        words = [f"--quantize {self.scheme}", f"--calibrate {Path(self.calibrate or '').name}"] if self.scheme else []
        words += [f"--calibration {self.method}"] if self.method else []
        words += ["--search"] if self.search else []
        words += [f"--keep-float {name}" for name in self.keep_float]
        return [*words, f"--io {self.io}"] if self.io else words


@dataclass(frozen=True)
class Job:
    """One compilation: what, for what, and by which passes."""

    source: str
    level: str = "2"
    passes: str | None = None
    stop_after: str | None = None
    target: str = "generic"
    name: str | None = None
    input_dims: dict[str, int] = field(default_factory=dict)
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    input_layout: str | None = None
    input: str = "whole"
    """`rows`: images are asked for row by row; `arena`: inputs lie there."""
    load_passes: tuple[str, ...] = ()
    quantization: Quantization = Quantization()
    graph_only: bool = False
    """Whether only the passes of the graph are to run (--emit onnx)."""
    tensors_only: bool = False
    """Whether to stop in front of the lowering to buffers (--emit rf)."""
    requant: str | None = None
    """`integer`: no float arithmetic in quantised ops."""
    limits: Limits = NO_LIMITS
    layerwise: bool = False
    """Whether the choice of a schedule is left out, so that each layer computes all of its result at once."""

    @property
    def is_text(self) -> bool:
        """Whether the source is IR, not a model."""
        return self.source.endswith(".tir")

    @property
    def options_text(self) -> str:
        """The options that shape the result, as they are recorded in the generated files."""
        words = [f"-O{self.level}" if self.passes is None else f"-p {self.passes}",
                 f"--target {Path(self.target).name}"]
        words += [f"--input-dim {k}={v}" for k, v in self.input_dims.items()]
        words += [f"--input-shape {k}={'x'.join(map(str, v))}" for k, v in self.input_shapes.items()]
        words += [f"--input-layout {self.input_layout}"] if self.input_layout else []
        words += [f"--input {self.input}"] if self.input != "whole" else []
        words += [f"--requant {self.requant}"] if self.requant else []
        words += self.limits.words
        return " ".join([*words, *self.quantization.options_text])


def job_of(options: Namespace, parser: Parser) -> Job:
    """What the options of a command line ask for."""
    dims = cast("dict[str, int]", pairs(parser, "--input-dim", options.input_dim))
    shapes = cast("dict[str, tuple[int, ...]]", pairs(parser, "--input-shape", options.input_shape))
    return Job(options.source or "", options.level, options.passes, getattr(options, "stop_after", None),
               options.target, getattr(options, "name", None), dims, shapes, options.input_layout,
               options.input, tuple(options.load_pass), _quantization_of(options, parser),
               getattr(options, "emit", None) == "onnx", getattr(options, "emit", None) == "rf", options.requant,
               _limits_of(options))


def _limits_of(options: Namespace) -> Limits:
    if not hasattr(options, "ram"):
        return NO_LIMITS
    explore = getattr(options, "pareto", False) or getattr(options, "emit", None) == "plot"
    return Limits(options.ram, options.flash, options.recompute, explore)


def _quantization_of(options: Namespace, parser: Parser) -> Quantization:
    if not hasattr(options, "quantize"):
        return Quantization()
    given = {"--calibrate": options.calibrate, "--calibration": options.calibration, "--search": options.search,
             "--keep-float": options.keep_float}
    for name, value in given.items():
        if value and options.quantize is None:
            parser.error(f"{name} goes with --quantize int8")
    if options.quantize is not None and options.calibrate is None:
        parser.error("--quantize needs samples of the inputs: --calibrate FILE.npz")
    if options.search and options.calibration:
        parser.error("--search tries every calibration method; leave --calibration out")
    return Quantization(options.quantize, options.calibrate, options.calibration, options.search,
                        tuple(options.keep_float), options.io, Transform(options.scale, options.offset))


@dataclass
class Compiled:
    """A module after its passes, and what was learnt on the way."""

    job: Job
    module: Module
    passes: list[Pass]
    context: Context
    facts: Facts
    reference_model: bytes | None = None
    """The ONNX model to check against, where that is not the source (--quantize, --io)."""

    def c_files(self, emission: Emission) -> dict[str, bytes]:
        """The C of the module by file name. Raises CompileError where it is not at mem level."""
        if self.module.level != "mem":
            raise error(f"C can be written of a module at level mem; this one is at level {self.module.level}",
                        help="the pipeline has to end with lower-to-mem,plan-arena (or use --emit ir)")
        check_fit(self.facts, self.context.target)
        return dict(BACKENDS.get("c")(
            self.module, name=emission.name, arena=emission.arena, hooks=emission.hooks, marks=emission.marks,
            single_file=emission.single_file, sections=emission.sections))

    def c_program(self, emission: Emission) -> Program:
        """The C of the module, ready to be run: inputs that come by rows are taken as wholes."""
        files = self.c_files(emission)
        arena = self.facts.arena_bytes if emission.arena == "caller" and self.module.arenas else None
        program = program_of(self.module, emission.name, files, caller_arena=arena)
        return takes_wholes(program, self.module, hooks=emission.hooks)


def symbol_of(job: Job) -> str:
    """The prefix of the C symbols: what the user gave, or the file's name made a C identifier.

    Raises CompileError for a name that C does not accept.
    """
    if job.name is not None:
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", job.name) is None:
            raise error(f"--name: {job.name!r} is not a C identifier", help="use letters, digits and underscores")
        return job.name
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", Path(job.source).stem).strip("_") or "model"
    return stem if not stem[0].isdigit() else f"m_{stem}"


def load_module(job: Job, context: Context) -> Module:
    """Read the model or the text. Raises CompileError."""
    for loaded in job.load_passes:
        load_file(loaded)
    path = Path(job.source)
    if not path.exists():
        raise error(f"there is no file {job.source}", help=_similar_file(path))
    if path.is_dir():
        raise error(f"{job.source} is a directory, not a model")
    if job.is_text:
        return _load_text(job)
    if path.suffix not in (".onnx", ".pb", ".ort", "") and not path.suffix[1:].isdigit():
        known = {".tflite": "TensorFlow Lite", ".h5": "Keras", ".keras": "Keras", ".pt": "PyTorch", ".pth": "PyTorch",
                 ".safetensors": "weights only"}
        if path.suffix in known:
            raise error(f"{job.source} is no ONNX model but {known[path.suffix]}", help="export it to ONNX first")
    module = FRONTENDS.get("onnx")(str(path), input_dims=job.input_dims, input_shapes=job.input_shapes,
                                   name=symbol_of(job), ctx=context)
    module.attrs["model_file"] = path.name
    module.attrs["model_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return module


def _load_text(job: Job) -> Module:
    from tinyir.parser import parse_file
    from tinyir.verify import verify

    if job.input_dims or job.input_shapes:
        raise error("--input-dim and --input-shape are for ONNX models; the types in a .tir file are fixed")
    module = parse_file(job.source)
    verify(module)
    return module


def _similar_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    near = [p.name for p in path.parent.iterdir() if p.suffix in (path.suffix, ".onnx", ".tir")]
    return did_you_mean(path.name, near) if path.name and len(near) < 200 else None


def make_passes(job: Job, level: Level = "graph", *, quantised: bool = False) -> list[Pass]:
    """The passes to run on a module that is at `level`. Raises CompileError for a name or an option that is not known.

    `quantised` says whether the model has quantised values already.

    A pipeline of a level (-O2) leaves out what a module has behind it already; one that the user gives is run as it is.
    """
    passes = parse_pipeline(_pipeline(job, quantised) if job.passes is None else job.passes)
    if job.quantization.io is not None:
        passes = _with_io(passes, job.quantization.io)
    if job.quantization.method is not None:
        passes = [_with_option(p, "method", job.quantization.method) if p.name == "calibrate" else p for p in passes]
    if job.input_layout is not None:
        passes = [_with_option(p, "input_layout", job.input_layout) for p in passes]
    passes = _with_schedule(passes, job)
    if job.input != "whole" and not job.graph_only:
        passes = _with_input(passes, job.input, level)
    if job.passes is None:
        passes = passes[_behind(passes, level):]
    if job.tensors_only:
        passes = passes[:next((i for i, p in enumerate(passes) if p.to_level == "mem"), len(passes))]
    if job.stop_after is None:
        return passes
    names = [p.name for p in passes]
    if job.stop_after not in names:
        known = dict(PASSES.items())
        message = "is not in the pipeline" if job.stop_after in known else "is not a pass"
        raise error(f"--stop-after: {job.stop_after} {message}", help=did_you_mean(job.stop_after, set(names)))
    return passes[:len(names) - names[::-1].index(job.stop_after)]


def _behind(passes: Sequence[Pass], level: Level) -> int:
    """How many passes lead up to `level`: the last of them makes it, or does not work on it any more."""
    here = LEVELS.index(level)
    reached = [i for i, p in enumerate(passes, 1)
               if (p.to_level is not None and LEVELS.index(p.to_level) <= here)
               or max(LEVELS.index(one) for one in ((p.level,) if isinstance(p.level, str) else p.level)) < here]
    return max(reached, default=0)


def _with_option(pass_: Pass, name: str, value: object) -> Pass:
    """`pass_` with this value of an option, if it has that option."""
    options = [f.name for f in dataclasses.fields(cast(Any, pass_))]
    return cast(Pass, dataclasses.replace(cast(Any, pass_), **{name: value})) if name in options else pass_


def _pipeline(job: Job, quantised: bool) -> str:
    """The passes of the level, behind those that quantise; without those below the graph where these are not wanted."""
    level = PIPELINES.get(f"O{job.level}")
    if job.quantization.scheme is not None:
        graph = PIPELINES.get("search-int8" if job.quantization.search else "quantize-int8")
        return graph if job.graph_only else f"{graph},{level}"
    return PIPELINES.get("quantised-graph" if quantised else "float-graph") if job.graph_only else level


def _with_io(passes: list[Pass], io: str) -> list[Pass]:
    """Set what is taken at the boundary as soon as integer ops are known, or at the end of the graph."""
    at = next((i for i, p in enumerate(passes, 1) if p.name == "fuse-quantized"), len(passes))
    return [*passes[:at], *parse_pipeline(f"set-io{{io={io}}}"), *passes[at:]]


_CHOICE = ("order", "schedule")


def _with_schedule(passes: list[Pass], job: Job) -> list[Pass]:
    """The passes with the choice of a schedule that the job wants."""
    if job.layerwise or job.tensors_only:
        return [p for p in passes if p.name not in _CHOICE]
    wanted = not job.graph_only and (job.passes is None or job.limits.words)
    return with_limits(passes, job.limits) if wanted else passes


_INPUTS = {"rows": ("pull-input", "sched.pull"), "arena": ("hold-input", "sched.hold")}


def _with_input(passes: list[Pass], how: str, level: Level) -> list[Pass]:
    """Say how inputs come as soon as the graph is done, in front of what decides how it is executed."""
    name, op = _INPUTS[how]
    if level in ("sched", "mem"):
        raise error(f"--input {how}: this text is at level {level}, where it is settled how inputs come",
                    help=f"write {op} into it, in front of what reads the input")
    ends = (i for i, p in enumerate(passes)
            if p.to_level in ("sched", "mem") or p.name == "scan-columns" or p.name.startswith("expand-"))
    at = next(ends, len(passes))
    return [*passes[:at], *parse_pipeline(name), *passes[at:]]


class _Stages(Instrument):
    """Shows on the progress line which pass is running."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.progress.begin(f"pass {number}: {pass_.name}")

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.progress.end()

    def failed(self, number: int, pass_: Pass, module: Module, ctx: Context, problem: BaseException) -> None:
        self.progress.end()


def compile_job(job: Job, *, instruments: Sequence[Instrument] = (), progress: Progress | None = None,
                context: Context | None = None) -> Compiled:
    """Load and run all passes. Raises CompileError; an internal one comes with a reproducer saved."""
    progress = progress or Progress("tinyc", enabled=False)
    context = context or Context(target_named(job.target))
    with progress.stage(f"reading {Path(job.source).name}"):
        module = load_module(job, context)
        passes = make_passes(job, module.level, quantised=any(op.opname.startswith("qnn.") for op in module.walk()))
    _give_samples(job, module, context)
    if job.requant is not None:
        module.attrs["requant"] = job.requant
    module.attrs.update(options=job.options_text, target=context.target.name, pipeline=print_pipeline(passes))
    graph = GraphFacts()
    wanted = job.quantization
    written = ReferenceModel(quantize=wanted.scheme is not None, io=wanted.io)
    watched = (graph, _Stages(progress), written, *instruments)
    PassManager(passes, watched).run(module, context)
    return Compiled(job, module, passes, context, gather_facts(module, graph), written.data)


def layer_by_layer(compiled: Compiled) -> Compiled:
    """The same without a schedule, for what looks at the tensors of all layers."""
    if not any(p.name in _CHOICE for p in compiled.passes):
        return compiled
    return compile_job(dataclasses.replace(compiled.job, layerwise=True))


def _give_samples(job: Job, module: Module, context: Context) -> None:
    """Put into the context what the passes that quantise ask for."""
    from .calibration import Calibration

    wanted = job.quantization
    if wanted.calibrate is not None:
        ports = tuple(Port(_original_name(a), a.shape, a.type.dtype) for a in module.main.inputs)
        context.options["calibration"] = Calibration(wanted.calibrate, ports, wanted.transform)
    context.options["keep_float"] = wanted.keep_float


def _original_name(value: Value) -> str:
    """The name of an input in the model's file."""
    return next(iter(origins(value.loc)), value.name)


def is_internal(problem: BaseException) -> bool:
    """Whether `problem` is a bug of ours."""
    if isinstance(problem, CompileError):
        return any(d.severity == "internal" for d in problem.diagnostics)
    return not isinstance(problem, (KeyboardInterrupt, SystemExit, MemoryError))
