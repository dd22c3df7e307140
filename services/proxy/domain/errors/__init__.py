"""Foundry's errors read and judged, and told in the caller's words."""
