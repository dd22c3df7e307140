"""The data plane: calls to Foundry under virtual keys. It has no database driver.

The way of a call: front door (`front`, `inference`) → admission (`domain/admission`, rate limits in `limits`, the
estimate in `domain/prepare`, money in `treasury`, which drives `domain/bank`) → journal (`till`) → upstream → meter
(`relay`, `domain/meters`) → journal → publisher. What stops a call raises `Refused` in exactly one of these.
"""
