"""The one path that training, evaluation, batch and serving share."""
