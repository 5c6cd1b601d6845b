"""What is written down: config, run folder, environment, registry. Imports only the ground."""
