"""`config.yaml`: read once, checked whole."""
