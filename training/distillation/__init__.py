"""Learning from a teacher: the logits of other models, and the loss."""
