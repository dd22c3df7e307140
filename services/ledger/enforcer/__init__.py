"""Decides who may spend: memory and NATS only, so that Postgres may be away.

`office` holds the lease and takes office behind the fence, or follows as a standby; `reader` folds the logs,
`snapshots` keeps what was folded, `clerk` answers proxies in group-committed batches, `herald` publishes levels and
signals.
"""
