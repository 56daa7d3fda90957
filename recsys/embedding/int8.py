"""A transformer in int8 by ONNX Runtime: made from the torch model on the spot, kept beside the vectors it makes.

Matrix products run on int8 weights, one scale an output channel, and on activations quantised as they come, one
scale a batch (Jacob et al. 2018, arXiv 1712.05877); all else stays float32. So a vector depends a little on which
texts shared its batch. The extra `int8` brings what this file imports.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from recsys.arrays import FloatArray, IntArray, LongArray
from recsys.parallel.threads import cores
from recsys.storage.content_addressed import publish, sound

log = logging.getLogger(__name__)

_OPSET = 17
_NAMES = ["input_ids", "attention_mask"]


class Int8Model:
    """Token ids and mask `(n, t)` to features `(n, d)` float32, on the CPU. Usable from several threads."""

    def __init__(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()  # it has threads of its own, which heed no variable
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, ids: LongArray, mask: IntArray) -> FloatArray:
        """Pooled features of one batch."""
        features: FloatArray = self._session.run(None, dict(zip(_NAMES, (ids, mask.astype(np.int64)), strict=True)))[0]
        return features


def load_int8(folder: Path | None, load: Callable[[], object]) -> Int8Model:
    """Open the int8 model kept in `folder`; where there is none it is made of `load()`, a `Pooled`, and kept there.

    Without a folder it is made anew each time. A file whose bytes are not those of its name is removed.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    for path in sorted(folder.glob("*.onnx")) if folder else ():
        if sound(path):
            return Int8Model(path.read_bytes())
        log.warning("vector store: the int8 model %s is damaged; it is made again", path)
        path.unlink(missing_ok=True)
    content = _quantized(load())
    if folder:
        publish(folder, content, ".onnx", "the int8 model")
    return Int8Model(content)


def _quantized(model: object) -> bytes:
    """The int8 model as bytes of an ONNX file."""
    import torch

    assert isinstance(model, torch.nn.Module)
    example = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "texts", 1: "tokens"} for name in _NAMES} | {"features": {0: "texts"}}
    with tempfile.TemporaryDirectory() as drafts, _quiet():
        plain, small = Path(drafts) / "float32.onnx", Path(drafts) / "int8.onnx"
        # The exporter by tracing: the one by torch.export takes three times as long, and further packages.
        torch.onnx.export(model, (example, example), str(plain), input_names=_NAMES, output_names=["features"],
                          dynamic_axes=axes, opset_version=_OPSET, dynamo=False)  # fmt: skip
        quantize_dynamic(plain, small, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                         weight_type=QuantType.QInt8)  # fmt: skip
        return small.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep advice of exporter and quantiser, which a user can do nothing about, off the screen."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
