"""What figures of speed and memory were taken on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ["describe_machine", "peak_memory_mb"]


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, in MB; None where the system doesn't tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes, but bytes on macOS (getrusage(2)).
    return float(peak) / (1e6 if platform.system() == "Darwin" else 1e3)


def describe_machine() -> dict[str, str]:
    """Versions, cores and processor, by name."""
    return {
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "tokenizers": version("tokenizers"),
        "numpy": version("numpy"),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
