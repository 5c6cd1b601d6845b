"""genmed: reproducible training for medical imaging.

The verbs of the command line as functions (`genmed.train(config)`, `genmed.verify(run)`), loaded when first used, so
that `import genmed` costs nothing. `genmed.seed` serves anybody's own PyTorch code.
"""

__version__ = "0.1.0"
