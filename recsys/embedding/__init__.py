"""From texts to vectors: what is encoded, by which model, kept where, whitened how."""
