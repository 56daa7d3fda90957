"""From histories to candidates: retrievers over FAISS and item-to-item statistics."""
