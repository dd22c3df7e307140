"""The rules of the ledger, pure: fold the logs into balances, decide requests, see what was crossed.

`directory` and `state` hold what the logs say, `stakes` and `fold` put records into them, `draft` and `decide` turn
requests into new records, `refuse` explains a no, `cross` finds passed and restored limits. The `desk` puts it all in
order for one partition: `batch` is what it decides in one go, `recall` asks money back, `silence` gives up instances
nobody hears of, `calendar` knows what changes by the clock, `level` what machines are to read, `weight` how large a
batch may be. `forget` bounds the memory, `snapshot` writes the state down; `usage` and `books` serve the books.
"""
