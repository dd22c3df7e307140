"""The decisions of auth, pure: commands and state in, events out."""
