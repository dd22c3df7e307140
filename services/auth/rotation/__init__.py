"""New secrets in place of old ones, and how they reach their owners."""
