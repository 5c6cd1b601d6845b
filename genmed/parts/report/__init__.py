"""What people read of a run: made of its plain documents, nothing computed anew."""
