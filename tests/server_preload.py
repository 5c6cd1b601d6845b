"""What the fork server imports before it forks: all that genmed imports, and computes nothing."""

import alembic.runtime.environment
import alembic.script  # noqa: F401
import jinja2  # noqa: F401
import pytest  # noqa: F401  multiprocessing runs the main module again in each child: here, pytest's
import sklearn.metrics  # noqa: F401
import torch
import torch.utils._python_dispatch
import torchvision  # noqa: F401

import genmed.cli.app
import genmed.engine.dry_step
import genmed.workflows.bundle
import genmed.workflows.extend
import genmed.workflows.inspection.check
import genmed.workflows.inspection.contact_sheet
import genmed.workflows.inspection.image_cache
import genmed.workflows.inspection.listing
import genmed.workflows.resume
import genmed.workflows.train
import genmed.workflows.verify  # noqa: F401

torch.nn.Module()  # the first one loads some of torch, and runs no kernel
