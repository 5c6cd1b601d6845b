"""What people read of a run, made of its documents: a page with plots, plots for a paper, a model card."""
