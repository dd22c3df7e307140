"""The data plane: calls to Foundry under virtual keys. It has no database driver.

The way of a call: front door (`front`, its table in `domain/paths`) → who calls and what is asked (`inference`,
`choosing`, `domain/admission`, `domain/requests`) → what to send and what to hold (`domain/holds`,
`domain/translate`) → rate limits (`limits`) and money (`treasury`, which drives `domain/money`) → journal (`till`) →
`upstream` → meter and answer (`relay`, `domain/meters`) → journal → publisher. What stops a call raises `Refused` or
`BadRequest` in exactly one of these. Beside it: `stored` (responses, files, batches), `realtime` (WebSockets),
`config`, `models`.
"""
