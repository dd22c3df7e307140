"""Keeps the books in Postgres: every usage event once, balances beside them, an API to read both.

`consumer` brings events from the log, `store` writes them, `rebuild` folds the whole log again and compares.
"""
