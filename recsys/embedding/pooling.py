"""A transformer and its pooling as one torch module.

Imported when the first text is encoded, since importing torch takes a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from recsys.errors import ConfigError


class Pooled(torch.nn.Module):
    """Maps token ids and mask `(n, t)` to features `(n, d)` float32.

    Args:
        transformer: A model of `transformers`.
        pooling: `cls` takes the output at the first token, `mean` the average over a text's tokens.
    """

    def __init__(self, transformer: Any, pooling: str) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Compute the pooled features of one batch."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]
        if self.pooling == "cls":
            return hidden[:, 0].float()
        weight = attention_mask.unsqueeze(-1).float()
        return (hidden.float() * weight).sum(1) / weight.sum(1)


def load_pooled(folder: Path, pooling: str) -> Pooled:
    """Load the float32 weights of a model folder, for inference.

    Args:
        folder: As `recsys.embedding.locate.find_model` returns it.
        pooling: `cls` or `mean`.

    Raises:
        ConfigError: Weights are missing.
    """
    model, info = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
    )
    # transformers initialises missing weights at random. Those of the pooler are never used.
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if lacking:
        raise ConfigError(
            f"embedding.model {folder} lacks {len(lacking)} of its weights, first {lacking[0]!r}: "
            "its safetensors and its config.json do not belong together"
        )
    return Pooled(model, pooling).float().eval()
