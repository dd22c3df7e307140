"""Rate limits over the fleet."""
