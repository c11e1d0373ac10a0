"""Passes, pipelines of passes, analyses, and the manager that runs them.

A pass is a frozen dataclass; its fields are its options. So a pipeline is text that reads back:

    fold-batch-norm,fuse-activation,plan-arena{align=32}

A pass either has methods marked `@rewrites(SomeOp)`, which the manager applies until nothing changes, or overrides
`run`. `level` is the level that it needs, `to_level` the one it makes.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from typing_extensions import dataclass_transform

from .diag import UNKNOWN, CompileError, Diagnostic, Location, did_you_mean, error
from .ir import Level, Module
from .opdef import Op
from .registry import PASSES, PIPELINES, load_plugins
from .rewrite import Rewriter, run_rewrites
from .target import Target, target_named

__all__ = ["Analysis", "Context", "Instrument", "Pass", "PassManager", "option", "parse_pipeline", "print_pipeline"]

T = TypeVar("T")


def option(default: T, help: str) -> T:
    """A field of a pass that the user can set: `plan-arena{align=32}`."""
    made: T = field(default=default, metadata={"help": help})
    return made


@dataclass_transform(frozen_default=True, field_specifiers=(field,))  # option(16, "..."): a plain default
class Pass:
    """A transformation of a module, in place, through a Rewriter."""

    name: ClassVar[str] = ""
    level: ClassVar[Level | tuple[Level, ...]] = ("graph", "quant", "sched", "mem")
    to_level: ClassVar[Level | None] = None
    changes_results: ClassVar[bool] = False
    """Whether the module is meant to compute something else afterwards, as when floats become integers."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            dataclass(frozen=True)(cls)
            PASSES.add(cls.name, cls)

    def run(self, module: Module, ctx: Context) -> None:
        """Transform `module`. The default applies the methods marked with `@rewrites` to a fixpoint."""
        table: dict[type[Op], list[Callable[[Op, Rewriter], None]]] = {}
        for attribute in dir(type(self)):
            method = getattr(self, attribute)
            for kind in getattr(method, "rewrites", ()):
                table.setdefault(kind, []).append(method)
        if not table:
            raise NotImplementedError(f"{type(self).__name__} has neither run() nor @rewrites methods")
        run_rewrites(module, ctx, self.name, table)

    def rewriter(self, module: Module, ctx: Context) -> Rewriter:
        """A rewriter for passes that override `run`."""
        return Rewriter(module, ctx, self.name)

    def __str__(self) -> str:
        given = [(f.name, getattr(self, f.name)) for f in dataclasses.fields(typing.cast(Any, self))]
        defaults = {f.name: f.default for f in dataclasses.fields(typing.cast(Any, self))}
        shown = [f"{n.rstrip('_').replace('_', '-')}={_option_text(v)}" for n, v in given if v != defaults[n]]
        return self.name + (f"{{{','.join(shown)}}}" if shown else "")


def _option_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Analysis(Generic[T]):
    """A fact about a module, computed when asked for and kept until the module changes.

    class Liveness(Analysis[dict[Value, Interval]]):
        @classmethod
        def compute(cls, module, ctx): ...

    ctx.analysis(Liveness, module)
    """

    @classmethod
    def compute(cls, module: Module, ctx: Context) -> T:
        raise NotImplementedError


@dataclass
class Context:
    """What one compilation carries along: target, diagnostics, statistics, cached analyses."""

    target: Target = field(default_factory=lambda: target_named("generic"))
    diagnostics: list[Diagnostic] = field(default_factory=list)
    stats: dict[str, dict[str, int | float | str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What passes found out that tools may show: plain data (numbers, texts, lists) by name of the pass."""
    current_pass: str = ""
    _analyses: dict[type[Any], tuple[int, int, Any]] = field(default_factory=dict)

    def analysis(self, kind: type[Analysis[T]], module: Module) -> T:
        """The analysis of the module as it stands, from the cache if nothing has changed since."""
        cached = self._analyses.get(kind)
        if cached is not None and cached[:2] == (id(module), module.version):
            found: T = cached[2]
            return found
        result = kind.compute(module, self)
        self._analyses[kind] = (id(module), module.version, result)
        return result

    def remark(self, message: str, loc: Location = UNKNOWN) -> None:
        """Record what was or was not optimised, and why; shown with --remarks."""
        self.diagnostics.append(Diagnostic("remark", message, loc))

    def warn(self, message: str, loc: Location = UNKNOWN, *, help: str | None = None) -> None:
        """Record something that the user should look at."""
        self.diagnostics.append(Diagnostic("warning", message, loc, help=help))

    def stat(self, name: str, value: int | float | str) -> None:
        """Record a figure of the current pass; shown with --stats."""
        self.stats.setdefault(self.current_pass, {})[name] = value


class Instrument:
    """Watches passes from outside: printing, timing, checking. Override what is of interest."""

    def start(self, module: Module, ctx: Context) -> None:
        """Called once, before the first pass."""

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        """Called before pass `number`, counted from 1."""

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        """Called after a pass that succeeded."""

    def failed(self, number: int, pass_: Pass, module: Module, ctx: Context, problem: BaseException) -> None:
        """Called after a pass that raised."""

    def finish(self, module: Module, ctx: Context) -> None:
        """Called once, after the last pass; not if a pass raised."""


@dataclass
class PassManager:
    """Runs passes in order, checks levels, tells the instruments."""

    passes: Sequence[Pass]
    instruments: Sequence[Instrument] = ()

    def run(self, module: Module, ctx: Context | None = None) -> Context:
        """Run every pass on `module`, in place. Raises CompileError."""
        ctx = ctx or Context()
        for instrument in self.instruments:
            instrument.start(module, ctx)
        for number, pass_ in enumerate(self.passes, 1):
            self._run_one(number, pass_, module, ctx)
        for instrument in self.instruments:
            instrument.finish(module, ctx)
        return ctx

    def _run_one(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        _check_level(pass_, module)
        ctx.current_pass = pass_.name
        for instrument in self.instruments:
            instrument.before(number, pass_, module, ctx)
        try:
            pass_.run(module, ctx)
            if pass_.to_level is not None:
                module.level = pass_.to_level
            module.version += 1
            for instrument in self.instruments:
                instrument.after(number, pass_, module, ctx)
        except BaseException as problem:
            for instrument in self.instruments:
                instrument.failed(number, pass_, module, ctx, problem)
            raise


def _check_level(pass_: Pass, module: Module) -> None:
    allowed = (pass_.level,) if isinstance(pass_.level, str) else pass_.level
    if module.level not in allowed:
        raise error(f"pass {pass_.name} needs a module at level {' or '.join(allowed)}, this one is at {module.level}",
                    help="print the pipeline with --print-pipeline to see the order")


_PASS = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\{([^{}]*)\})?\s*(,|$)")


def parse_pipeline(text: str) -> list[Pass]:
    """The passes of a pipeline string such as `fold-batch-norm,plan-arena{align=32}`. Raises CompileError.

    The name of a pipeline stands for its passes: `my-pass,O2` runs my-pass and then what -O2 runs.
    """
    passes: list[Pass] = []
    position = 0
    while position < len(text):
        match = _PASS.match(text, position)
        if match is None:
            raise error(f"pipeline: cannot read {text[position:position + 30]!r}",
                        help="a pipeline is pass,pass{option=value,option=value},pass")
        passes += _passes_called(match[1], match[2])
        position = match.end()
        if match[3] == "," and position == len(text):
            raise error("pipeline: there is a comma but no pass behind it")
    return passes


def _passes_called(name: str, options: str | None) -> list[Pass]:
    """The pass of that name, or the passes of the pipeline of that name (which takes no options)."""
    if PASSES.find(name) is None:
        load_plugins()
    text = PIPELINES.find(name)
    if text is None or options is not None:
        return [_make_pass(name, options or "")]
    return parse_pipeline(text)


def print_pipeline(passes: Iterable[Pass]) -> str:
    """The pipeline string that reads back as `passes`."""
    return ",".join(str(p) for p in passes)


def _make_pass(name: str, options: str) -> Pass:
    kind = PASSES.get(name)
    hints = typing.get_type_hints(kind)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(typing.cast(Any, kind))}
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, text = item.partition("=")
        key = key.strip().replace("-", "_")
        key = f"{key}_" if f"{key}_" in fields else key  # `from` is a word of Python
        if not equals or key not in fields:
            raise error(f"pass {name} has no option {item!r}",
                        help=did_you_mean(key, fields) if fields else f"{name} takes no options")
        values[key] = _option_value(name, key, fields[key], text.strip())
    return kind(**values)


def _option_value(pass_name: str, key: str, kind: Any, text: str) -> Any:
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    try:
        if choices:
            return next(c for c in choices if str(c) == text)
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text)
    except (KeyError, ValueError, TypeError, StopIteration):
        wanted = " or ".join(map(str, choices)) if choices else {"bool": "true or false", "int": "a whole number",
                                                                 "float": "a number"}.get(kind.__name__, kind.__name__)
        raise error(f"pass {pass_name}: {key.replace('_', '-')} should be {wanted}, not {text!r}") from None


def is_user_error(problem: BaseException) -> bool:
    """Whether `problem` is about the user's model or options, not a bug of ours."""
    return isinstance(problem, CompileError) and all(d.severity != "internal" for d in problem.diagnostics)
