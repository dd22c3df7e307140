"""Answers, with the names of LiteLLM."""
