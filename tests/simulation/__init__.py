"""A small world that runs the real money rules of ledger and proxy by seed, through everything that goes wrong."""
