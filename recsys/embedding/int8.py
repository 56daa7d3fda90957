"""A transformer in int8, run by ONNX Runtime.

The int8 model is derived from the torch model on first use and cached beside the vectors it computes. Matrix products
use int8 weights with one scale per output channel, and activations quantised dynamically with one scale per batch
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
arXiv 1712.05877). Everything else stays float32. A vector therefore depends slightly on the other texts of its batch.
The extra `int8` brings the packages that this module imports.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.parallel.threads import cores
from recsys.storage.content_addressed import is_intact, publish

log = logging.getLogger(__name__)

_OPSET = 17
_NAMES = ["input_ids", "attention_mask"]


class Int8Model:
    """Maps token ids and mask `(n, t)` to features `(n, d)` float32, on the CPU. Several threads may use one.

    Args:
        content: The bytes of an ONNX file.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime  # of an extra

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()  # its own thread pool ignores OMP_NUM_THREADS
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, ids: LongArray, mask: IntArray) -> FloatArray:
        """Compute the pooled features of one batch."""
        features: FloatArray = self._session.run(None, dict(zip(_NAMES, (ids, mask.astype(np.int64)), strict=True)))[0]
        return features


def load_int8(folder: Path | None, load: Callable[[], object]) -> Int8Model:
    """Load the cached int8 model, or derive it from the torch model and cache it.

    A cached file whose bytes do not match its name is removed.

    Args:
        folder: Where the model is cached. None: derive it each time.
        load: Returns the torch model, a `Pooled`. Called only where there is no cached int8 model.

    Raises:
        ArtifactError: The folder cannot be written.
    """
    for path in sorted(folder.glob("*.onnx")) if folder else ():
        if is_intact(path):
            return Int8Model(path.read_bytes())
        log.warning("vector store: the int8 model %s is damaged; it is made again", path)
        path.unlink(missing_ok=True)
    content = _quantise(load())
    if folder:
        publish(folder, content, ".onnx", "vector store", "the int8 model")
    return Int8Model(content)


def _quantise(model: object) -> bytes:
    """Quantise a torch model; return the bytes of an ONNX file."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert isinstance(model, torch.nn.Module)
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "texts", 1: "tokens"} for name in _NAMES} | {"features": {0: "texts"}}
    with tempfile.TemporaryDirectory() as drafts, _quiet():
        plain, small = Path(drafts) / "float32.onnx", Path(drafts) / "int8.onnx"
        # The tracing exporter. The one based on torch.export takes three times as long and needs more packages.
        torch.onnx.export(model, (example, example), str(plain), input_names=_NAMES, output_names=["features"],
                          dynamic_axes=axes, opset_version=_OPSET, dynamo=False)  # fmt: skip
        # Seven bits a weight: eight overflow on processors without VNNI, and the same text got another vector there.
        quantize_dynamic(plain, small, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, reduce_range=True,
                         weight_type=QuantType.QInt8)  # fmt: skip
        return small.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice of exporter and quantiser that a user can do nothing about."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
