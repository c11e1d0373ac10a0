"""Runs a compiled model from a shared library, in a process of its own: a crash of the C is then an answer, not an end.

    python host_worker.py JOB.json         {"library", "function", "inputs": [bytes], "outputs": [bytes], "arena",
                                            "samples", "repeat", "input_file", "output_file"}

Reads all samples from the input file (input after input, sample after sample), writes the outputs likewise, and prints
one line of JSON: the status of each run, the seconds of each of `repeat` timed runs of the first sample, and whether
the C left the bytes around its outputs alone. Only the standard library is used, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

GUARD = 64
"""Bytes around each output that must stay as they are."""
FILL = 0x5A


def aligned(size: int) -> tuple[Any, int]:
    """A buffer with guards on both sides and the 64-byte aligned address of its inside."""
    raw = (ctypes.c_ubyte * (size + 3 * GUARD))()
    ctypes.memset(raw, FILL, len(raw))
    return raw, (ctypes.addressof(raw) + GUARD + 63) // 64 * 64


def intact(raw: Any, address: int, size: int) -> bool:
    """Whether the bytes around `size` bytes at `address` are untouched."""
    begin = address - ctypes.addressof(raw)
    data = bytes(raw)
    return set(data[:begin] + data[begin + size:]) == {FILL}


def main() -> int:
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    function = getattr(ctypes.CDLL(job["library"]), job["function"])
    function.restype = ctypes.c_int
    buffers = [aligned(size) for size in (*job["inputs"], *job["outputs"])]
    arena = [aligned(job["arena"])] if job["arena"] is not None else []
    arguments = [ctypes.c_void_p(address) for _, address in (*arena, *buffers)]
    read = list(zip(buffers, job["inputs"], strict=False))
    written = list(zip(buffers[len(read):], job["outputs"], strict=True))
    statuses, seconds, clean = [], [], True
    with open(job["input_file"], "rb") as source, open(job["output_file"], "wb") as target:
        for sample in range(job["samples"]):
            for (_, address), size in read:
                ctypes.memmove(address, source.read(size), size)
            statuses.append(function(*arguments))
            for _ in range(job["repeat"] if sample == 0 else 0):
                start = time.perf_counter()
                function(*arguments)
                seconds.append(time.perf_counter() - start)
            for (raw, address), size in written:
                target.write(ctypes.string_at(address, size))
                clean = clean and intact(raw, address, size)
    print(json.dumps({"statuses": statuses, "seconds": seconds, "clean": clean}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
