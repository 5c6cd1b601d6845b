"""What the fork server imports before it forks: all that genmed imports, and computes nothing."""

import sklearn.metrics  # noqa: F401
import torch  # noqa: F401
import torch.utils._python_dispatch
import torchvision  # noqa: F401

import genmed.cli.app
import genmed.engine.dry_step
import genmed.workflows.resume
import genmed.workflows.train
import genmed.workflows.verify  # noqa: F401
