"""Ways to run Tundish. Nothing in `services` or `shared` imports this package."""
