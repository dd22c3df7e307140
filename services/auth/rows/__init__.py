"""States as answers."""
