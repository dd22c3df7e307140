"""What to hold for a call: likely needs, proven bounds, and the words of a refusal."""
