"""Decides who may spend: memory and NATS only, so that Postgres may be away.

`office` holds the lease and takes office behind the fence, `reader` folds the logs, `clerk` answers proxies in
group-committed batches, `herald` publishes signals.
"""
