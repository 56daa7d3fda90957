"""Fine-tuning: an encoder learns from the shop's texts and logs, and knows nothing of what the run predicts."""
