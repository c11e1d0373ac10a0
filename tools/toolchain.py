"""Finds C compilers and runs them: for the host, and for bare metal.

    cc = host_compiler()                          cc, gcc or clang on PATH, else the clang inside PyPI's `ziglang`
    shared_library({"m.c": b"..."}, cc, folder)   -> folder/libmodel.so
    arm = core_compiler("cortex-m4")              arm-none-eabi-gcc, else zig
    firmware(files, arm, folder, script=...)      -> folder/firmware.elf

What is installed on the machine comes first; `prefer="zig"` or the environment variable TINYC_TOOLCHAIN=zig asks for
the other route. No generated file depends on which compiler is found here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tinyir.diag import CompileError, Diagnostic, did_you_mean, error

from .cores import Core, core_named

__all__ = ["STRICT", "Compiler", "Route", "compile_objects", "core_compiler", "firmware", "host_compiler",
           "routes_present", "shared_library", "undefined_symbols"]

Route = Literal["auto", "system", "zig"]
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffreestanding")
"""What the generated C must compile with, by gcc and clang alike."""

_HOST_NAMES = ("cc", "gcc", "clang")

@dataclass(frozen=True)
class Compiler:
    """A C compiler: the words that start it and the flags that always come with it."""

    command: tuple[str, ...]
    kind: Literal["gcc", "clang", "zig"]
    flags: tuple[str, ...] = ()
    user_flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "zig cc" if self.kind == "zig" else Path(self.command[0]).name

    def run(self, arguments: Sequence[str], folder: Path) -> str:
        """Run it in `folder`; what it printed. Raises CompileError when it fails: an internal error, since the C is
        ours, unless the user chose flags."""
        words = [*self.command, *arguments]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise self._failure(words, done.stdout + done.stderr)
        return done.stdout

    def _failure(self, words: Sequence[str], text: str) -> CompileError:
        lines = [line for line in text.splitlines() if line.strip()]
        shown = tuple(lines[:12]) + ((f"... {len(lines) - 12} lines more",) if len(lines) > 12 else ())
        notes = (f"command: {shlex.join(words)}", *shown)
        severity: Literal["error", "internal"] = "error" if self.user_flags else "internal"
        return CompileError((Diagnostic(severity, f"{self} does not build the C", notes=notes,
                                        help="check --cflags" if self.user_flags else None),))


def _route(prefer: Route) -> Route:
    if prefer != "auto":
        return prefer
    asked = os.environ.get("TINYC_TOOLCHAIN")
    return "zig" if asked == "zig" else "system" if asked == "system" else "auto"


def _zig() -> tuple[str, ...] | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    return (sys.executable, "-m", "ziglang", "cc")


def _kind(command: str) -> Literal["gcc", "clang", "zig"]:
    """gcc or clang; `cc` may be either, so it is asked."""
    if "zig" in command:
        return "zig"
    if "clang" in command:
        return "clang"
    if Path(command).name not in ("cc", "cc.exe"):
        return "gcc"
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    return "clang" if "clang" in said else "gcc"


def _given(cc: str, flags: tuple[str, ...]) -> Compiler:
    """The compiler that the user names with --cc, which may have words behind it (`ccache gcc`)."""
    words = shlex.split(cc)
    found = shutil.which(words[0]) if words else None
    if found is None:
        raise error(f"--cc: there is no program {cc!r}", help=did_you_mean(cc, (*_HOST_NAMES, "arm-none-eabi-gcc")))
    return Compiler((found, *words[1:]), "zig" if "zig" in words[0] else _kind(found), (), flags)


def host_compiler(*, cc: str | None = None, cflags: str = "", prefer: Route = "auto") -> Compiler:
    """A C compiler for this machine. Raises CompileError if there is none."""
    user = tuple(shlex.split(cflags))
    if cc is not None:
        return _given(cc, user)
    route = _route(prefer)
    for name in _HOST_NAMES if route != "zig" else ():
        if (found := shutil.which(name)) is not None:
            return Compiler((found,), _kind(found), (), user)
    zig = _zig() if route != "system" else None
    if zig is None:
        raise error("no C compiler was found", notes=(f"looked for {', '.join(_HOST_NAMES)} and PyPI's ziglang",),
                    help="python -m pip install 'tinyc[cc]' brings one (or name yours with --cc)")
    # Without it zig instruments the code with undefined-behaviour traps at low optimisation levels.
    return Compiler(zig, "zig", ("-fno-sanitize=undefined",), user)


def core_compiler(target: str, *, cc: str | None = None, cflags: str = "", prefer: Route = "auto") -> Compiler:
    """A bare-metal C compiler for the core `target`. Raises CompileError if there is none."""
    core, user = core_named(target), tuple(shlex.split(cflags))
    if cc is not None:
        given = _given(cc, user)
        return replace(given, flags=_core_flags(core, given.kind))
    route = _route(prefer)
    found = shutil.which(core.compiler) if route != "zig" else None
    if found is not None:
        return Compiler((found,), "gcc", _core_flags(core, "gcc"), user)
    zig = _zig() if route != "system" else None
    if zig is None:
        package = "gcc-arm-none-eabi" if core.family == "arm" else "gcc-riscv64-unknown-elf"
        raise error(f"no C compiler for {target} was found", notes=(f"looked for {core.compiler} and PyPI's ziglang",),
                    help=f"python -m pip install 'tinyc[cc]' brings one (or apt-get install {package})")
    return Compiler(zig, "zig", _core_flags(core, "zig"), user)


def _core_flags(core: Core, kind: str) -> tuple[str, ...]:
    common = ("-ffreestanding", "-ffunction-sections", "-fdata-sections")
    if kind == "gcc":
        return (*core.gcc, *common)
    if kind == "zig":
        return (*core.zig, *common, "-fno-sanitize=undefined", "-fomit-frame-pointer", "-fno-unwind-tables")
    return (f"--target={core.triple}", *core.gcc, *common, "-fomit-frame-pointer")


def routes_present(target: str | None = None) -> list[Route]:
    """Which of the two routes could build for the core `target` (None: this machine)."""
    names = _HOST_NAMES if target is None else (core_named(target).compiler,)
    found: list[Route] = ["system"] if any(shutil.which(n) for n in names) else []
    return [*found, "zig"] if _zig() is not None else found


def compile_objects(files: Mapping[str, bytes], compiler: Compiler, folder: Path, flags: Sequence[str] = ("-O2",),
                    cache: Path | None = None) -> list[Path]:
    """Write `files` into `folder` and compile every .c of them; the objects, in the order of the names.

    Files of constants (`*_weights.c`) take seconds and do not gain from optimisation: they are built with -O0, and
    once only for each content if there is a `cache` folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [_object(name, data, compiler, folder, tuple(flags), cache)
            for name, data in sorted(files.items()) if name.endswith(".c")]


def _object(name: str, data: bytes, compiler: Compiler, folder: Path, flags: tuple[str, ...],
            cache: Path | None) -> Path:
    target = folder / (name[:-2] + ".o")
    is_data = name.endswith("_weights.c")
    used = (*(f for f in flags if not f.startswith("-O")), "-O0") if is_data else flags
    words = [*compiler.flags, *used, *compiler.user_flags, "-I", ".", "-c", name, "-o", target.name]
    if cache is None or not is_data:
        compiler.run(words, folder)
        return target
    key = hashlib.sha256(repr((compiler.command, words)).encode() + data).hexdigest()[:32]
    kept = cache / f"{key}.o"
    if not kept.exists():
        compiler.run(words, folder)
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f"{key}.{os.getpid()}.tmp"
        shutil.copyfile(target, partial)
        partial.replace(kept)
    shutil.copyfile(kept, target)
    return target


def shared_library(files: Mapping[str, bytes], compiler: Compiler, folder: Path, flags: Sequence[str] = ("-O2",),
                   cache: Path | None = None) -> Path:
    """Build `files` into a library of the host; its path in `folder`."""
    objects = compile_objects(files, compiler, folder, ("-fPIC", *flags), cache)
    library = folder / "libmodel.so"
    compiler.run(["-shared", *compiler.flags, *(o.name for o in objects), "-o", library.name], folder)
    return library


def firmware(files: Mapping[str, bytes], compiler: Compiler, folder: Path, *, script: str,
             flags: Sequence[str] = ("-O3",), entry: str = "Reset_Handler", cache: Path | None = None) -> Path:
    """Build `files` into a bare-metal ELF image, linked by the linker script `script` against nothing but the
    compiler's own support library."""
    objects = compile_objects(files, compiler, folder, flags, cache)
    (folder / "link.ld").write_text(script)
    image = folder / "firmware.elf"
    support = ("-rtlib=compiler-rt",) if compiler.kind == "zig" else ("-lgcc",)
    sections = ("-Wl,--gc-sections",)
    compiler.run([*compiler.flags, "-nostdlib", "-static", f"-Wl,-e,{entry}", *sections, "-T", "link.ld",
                  *(o.name for o in objects), *support, "-o", image.name], folder)
    return image


def undefined_symbols(objects: Sequence[Path]) -> set[str]:
    """The symbols that `objects` (32- or 64-bit little-endian ELF) need and none of them defines."""
    from .elf import read_symbols

    needed: set[str] = set()
    defined: set[str] = set()
    for path in objects:
        for symbol in read_symbols(path.read_bytes()):
            if symbol.name:
                (defined if symbol.section else needed).add(symbol.name)
    return needed - defined
