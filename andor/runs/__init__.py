"""A run: models on prompts, on disk."""
