"""What the command-line programs share: exit statuses, messages, writing files whole, tables, progress.

    def main() -> int:
        return guarded("tinyc", lambda: work(sys.argv[1:]))

Exit status 0 done, 1 an error in the model or the options, 2 wrong usage, 70 a bug of ours.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tinyir.diag import CompileError, Diagnostic, did_you_mean, error
from tinyir.garbage import few_collections

__all__ = ["DONE", "FAILED", "INTERNAL", "USAGE", "Parser", "Progress", "chosen", "guarded", "internal_error", "note",
           "table", "version_text", "write_files"]

DONE, FAILED, USAGE, INTERNAL = 0, 1, 2, 70
_INTERRUPTED = 130


def note(text: str) -> None:
    """Print a line for the user; results of programs go to standard output, everything else here."""
    print(text, file=sys.stderr, flush=True)


def version_text() -> str:
    """The version that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tinyc")
    except PackageNotFoundError:
        return "unknown"


class Parser(argparse.ArgumentParser):
    """argparse with suggestions for misspelt options and without abbreviations."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the usage, with a hint, and leave with status 2."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        names = [o for action in self._actions for o in action.option_strings]
        hint = did_you_mean(unknown[0].partition("=")[0], names) if unknown else None
        lines = [f"error: {message}", f"help: {hint}" if hint else f"help: {self.prog} --help lists the options"]
        note("\n".join(lines))
        sys.exit(USAGE)


def chosen(what: str, known: Iterable[str]) -> Callable[[str], str]:
    """An argparse type that accepts the words `known` and suggests the closest one for others."""
    words = sorted(known)

    def check(text: str) -> str:
        if text not in words:
            hint = did_you_mean(text, words)
            raise argparse.ArgumentTypeError(f"there is no {what} {text!r}" + (f"; {hint}" if hint else ""))
        return text

    return check


def guarded(program: str, work: Callable[[], int]) -> int:
    """Run `work` and turn whatever it raises into messages and an exit status."""
    try:
        with few_collections():
            return work()
    except CompileError as problem:
        note(str(problem))
        return INTERNAL if any(d.severity == "internal" for d in problem.diagnostics) else FAILED
    except KeyboardInterrupt:
        note(f"{program}: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has gone; the interpreter must not complain about that when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError:
        note(f"{program}: error: this needs more memory than the machine has")
        return FAILED
    except Exception as problem:
        note(str(internal_error(problem)))
        note(f"help: this is a bug of {program}; please report it together with the command")
        return INTERNAL


def internal_error(problem: BaseException) -> CompileError:
    """An unexpected exception as a diagnostic: what it is, and the innermost places that it came through."""
    import traceback

    frames = traceback.extract_tb(problem.__traceback__)[-4:]
    notes = tuple(f"at {Path(f.filename).name}:{f.lineno} in {f.name}" for f in reversed(frames))
    message = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return CompileError((Diagnostic("internal", message, notes=notes),))


def write_files(files: Mapping[Path, bytes]) -> list[Path]:
    """Write `files` (folders are made where they are missing): all of them whole, or none. Raises CompileError."""
    made: list[Path] = []
    partial: list[tuple[str, Path]] = []
    try:
        for path, data in files.items():
            made = [p for p in (path.parent, *path.parent.parents) if not p.exists()] + made
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(0, "it is a folder", str(path))
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            partial.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o666 & ~_umask())
        for temporary, path in partial:
            os.replace(temporary, path)
    except OSError as problem:
        _clean_up([temporary for temporary, _ in partial], made)
        raise error(f"cannot write {path}: {problem.strerror or problem}",
                    help="-o names a folder (with a / behind it) or a file that can be written") from None
    return list(files)


def _clean_up(temporary: Iterable[str], folders: Iterable[Path]) -> None:
    for name in temporary:
        with contextlib.suppress(OSError):
            os.unlink(name)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: str = "  ") -> str:
    """Columns of text, aligned; those in `right` to the right."""
    widths = [max(len(row[c]) for row in rows if c < len(row)) for c in range(max(map(len, rows), default=0))]
    lines = []
    for row in rows:
        cells = [cell.rjust(widths[c]) if c in right else cell.ljust(widths[c]) for c, cell in enumerate(row)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


class Progress:
    """Says on standard error what is being done, once it takes longer than a second.

    On a terminal the line is overwritten and goes away; elsewhere each stage that is slow gets one line.
    """

    DELAY = 1.0

    def __init__(self, program: str, *, enabled: bool = True) -> None:
        self.program = program
        self.enabled = enabled
        self._terminal = sys.stderr.isatty()
        self._shown = False
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def begin(self, text: str) -> None:
        """From now on `text` is what is being done."""
        self.end()
        if self.enabled:
            self._timer = threading.Timer(self.DELAY, self._show, (text,))
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """It is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._clear()

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Within this block `text` is what is being done."""
        self.begin(text)
        try:
            yield
        finally:
            self.end()

    def _show(self, text: str) -> None:
        with self._lock:
            line = f"{self.program}: {text} ..."
            sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
            sys.stderr.flush()
            self._shown = self._terminal

    def _clear(self) -> None:
        with self._lock:
            if self._shown:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._shown = False
