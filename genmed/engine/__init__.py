"""The training itself: step, loop, trace, checkpoints."""
