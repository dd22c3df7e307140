"""The rules of the ledger, pure: fold the logs into balances, decide requests, see what was crossed.

`directory` and `state` hold what the logs say, `fold` puts records into them, `draft` and `decide` turn requests
into new records, `refuse` explains a no, `cross` finds passed limits, `usage` and `books` serve the books.
"""
