"""The training step: the loss and its gradient, the teacher's forward passes, the optimizer, checkpoints."""
