"""Builds a tiny causal language model with random weights: it writes, and nothing that it writes is true."""

from __future__ import annotations

import string
from pathlib import Path

WORDS = ["the", "tent", "costs", "is", "free", "best", "of", "a", "and", "you", "price", "tell", "me"]


def build_tiny_causal(folder: Path, seed: int = 0) -> Path:
    """Write the model and its tokenizer into `folder`, and return it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {word: n for n, word in enumerate(["[UNK]", "[END]", *WORDS, *string.punctuation])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="[END]", unk_token="[UNK]").save_pretrained(folder)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=512, n_embd=16, n_layer=1, n_head=2, bos_token_id=1,
                        eos_token_id=1)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
