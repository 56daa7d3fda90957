"""What a question wants: logistic regression on the question's vector and its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recsys.arrays import FloatArray, unit_rows
from recsys.assistant.languages import SLOT
from recsys.extras import require

Encode = Callable[[Sequence[str]], FloatArray]

STAND_IN = {"en": "the product", "zh": "商品"}  # written where a question names a product
WORDS_WEIGHT = 1.0


class IntentClassifier:
    """Tells the intent of a question from its vector joined with the TF-IDF of its characters.

    The vector knows paraphrases. The characters know words that an encoder may have never seen: an English encoder
    gives Chinese no meaning. Products are replaced by one stand-in, so the words of a catalogue decide nothing.
    """

    def __init__(self, examples: Mapping[str, Sequence[str]], language: str, encode: Encode) -> None:
        """Learn from example questions.

        Args:
            examples: Questions by intent; `{item}` stands for a product.
            language: `en` or `zh`.
            encode: From `n` texts to vectors `(n, d)`.
        """
        require("train", "answering questions", "sklearn")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._stand_in, self._encode = STAND_IN[language], encode
        texts = [self.masked(text) for of_intent in examples.values() for text in of_intent]
        labels = [intent for intent, of_intent in examples.items() for _ in of_intent]
        analyzer = "char" if language == "zh" else "char_wb"
        self._words = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 4), sublinear_tf=True, dtype=np.float32)
        self._words.fit(texts)
        self._model = LogisticRegression(C=20.0, max_iter=500, class_weight="balanced")
        self._model.fit(self._features(texts), labels)
        self.intents: list[str] = self._model.classes_.tolist()

    def masked(self, text: str) -> str:
        """Write a question with the stand-in where `{item}` stands, in lower case, without its end."""
        return " ".join(text.lower().replace(SLOT, f" {self._stand_in} ").split()).strip(" ?？!！.。,，")

    def probabilities(self, questions: Sequence[str]) -> FloatArray:
        """Return the probability of each intent `(n, intents)` for masked or unmasked questions."""
        return self._model.predict_proba(self._features([self.masked(text) for text in questions]))

    def _features(self, texts: Sequence[str]) -> Any:
        from scipy import sparse

        vectors = unit_rows(self._encode(texts))
        return sparse.hstack([sparse.csr_matrix(vectors), WORDS_WEIGHT * self._words.transform(texts)]).tocsr()
