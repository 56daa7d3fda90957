"""The losses of the objectives as torch modules. Imported when the training begins, since torch takes a second."""

from __future__ import annotations

import torch
from torch.nn import functional

from recsys.embedding.pooling import Pooled

Output = dict[str, torch.Tensor]
BLOCKED = -1e4  # added to the score of an item that must not compete


class Loss(torch.nn.Module):
    """A loss over the items of a batch. `encoder` is what is tuned; other weights serve the training alone."""

    def __init__(self, encoder: Pooled) -> None:
        super().__init__()
        self.encoder = encoder

    def vectors(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return unit vectors `(i, d)` of the texts of a batch."""
        return functional.normalize(self.encoder(input_ids, attention_mask), dim=1)


class Softmax(Loss):
    """Cross-entropy of the right item among the candidates of the batch, by cosine over a temperature."""

    def __init__(self, encoder: Pooled, temperature: float) -> None:
        super().__init__(encoder)
        self.temperature = temperature

    def choose(self, query: torch.Tensor, candidates: torch.Tensor, correction: torch.Tensor, blocked: torch.Tensor,
               target: torch.Tensor) -> Output:  # fmt: skip
        """Return the loss of choosing `target` `(b,)` among `candidates` `(c, d)` for each query `(b, d)`."""
        scores = query @ candidates.T / self.temperature + correction
        return {"loss": functional.cross_entropy(scores + BLOCKED * blocked, target)}


class PairLoss(Softmax):
    """The item that followed, given the one before it."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, left: torch.Tensor,
                candidates: torch.Tensor, correction: torch.Tensor, blocked: torch.Tensor,
                target: torch.Tensor) -> Output:  # fmt: skip
        """See `recsys.finetuning.objectives.pairs`; `left` and `candidates` are places in the batch's texts."""
        vectors = self.vectors(input_ids, attention_mask)
        return self.choose(vectors[left], vectors[candidates], correction, blocked, target)


class NextItemLoss(Softmax):
    """The item that followed a history, which is pooled with a learned weight for each age."""

    def __init__(self, encoder: Pooled, temperature: float, length: int, decay: float) -> None:
        super().__init__(encoder, temperature)
        ages = torch.arange(length, dtype=torch.float32)
        self.log_weight = torch.nn.Parameter(ages * torch.log(torch.tensor(decay)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, history: torch.Tensor, real: torch.Tensor,
                candidates: torch.Tensor, correction: torch.Tensor, blocked: torch.Tensor,
                target: torch.Tensor) -> Output:  # fmt: skip
        """See `recsys.finetuning.objectives.next_item`; `history` `(b, t)` holds places, newest first."""
        vectors = self.vectors(input_ids, attention_mask)
        weight = torch.softmax(self.log_weight[: history.shape[1]].masked_fill(~real, -torch.inf), dim=1)
        query = functional.normalize((weight[:, :, None] * vectors[history]).sum(1), dim=1)
        return self.choose(query, vectors[candidates], correction, blocked, target)


class DistillationLoss(Loss):
    """The divergence of the text vectors' likenesses from those that the teacher sees, over the items of a batch."""

    def __init__(self, encoder: Pooled, temperature: float) -> None:
        super().__init__(encoder)
        self.temperature = temperature

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, teacher: torch.Tensor) -> Output:
        """`teacher` `(b, v)` holds the teacher's unit vectors of the batch's items."""
        vectors = self.vectors(input_ids, attention_mask)
        itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)

        def likeness(rows: torch.Tensor) -> torch.Tensor:
            scores = (rows @ rows.T / self.temperature).masked_fill(itself, BLOCKED)
            return functional.log_softmax(scores, dim=1)

        return {"loss": functional.kl_div(likeness(vectors), likeness(teacher), log_target=True, reduction="batchmean")}


class MaskedWordsLoss(Loss):
    """Cross-entropy of hidden tokens, with BERT's head over the encoder's own word vectors (Devlin et al. 2019)."""

    def __init__(self, encoder: Pooled) -> None:
        super().__init__(encoder)
        words = encoder.transformer.get_input_embeddings().weight
        hidden = int(encoder.transformer.config.hidden_size)
        self.transform = torch.nn.Linear(hidden, words.shape[1])
        self.norm = torch.nn.LayerNorm(words.shape[1])
        self.bias = torch.nn.Parameter(torch.zeros(words.shape[0]))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> Output:
        """`labels` `(i, t)` holds the token ids to find, -100 where none is hidden."""
        output = self.encoder.transformer(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]
        hidden = labels >= 0
        found = self.norm(functional.gelu(self.transform(output[hidden])))
        words = self.encoder.transformer.get_input_embeddings().weight
        return {"loss": functional.cross_entropy(found @ words.T + self.bias, labels[hidden])}
