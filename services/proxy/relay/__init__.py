"""Passing replies on: metered, changed where needed, settled before their last bytes."""
