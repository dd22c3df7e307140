"""Keys: made, changed, read, killed."""
