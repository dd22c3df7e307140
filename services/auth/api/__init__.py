"""The HTTP API: one table of operations per room, and what turns a row into a route."""
