"""Stored objects (responses, files, batches): each for its owner alone, and what goes on after calls."""
