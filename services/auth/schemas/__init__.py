"""Requests, with the names of LiteLLM."""
