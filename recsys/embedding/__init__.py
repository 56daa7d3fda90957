"""From texts to vectors: what is encoded, by which model, where vectors are stored, how they are whitened."""
