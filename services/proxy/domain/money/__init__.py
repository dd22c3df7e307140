"""The wallet's side of allotments: holds, asks, returns, refusals remembered."""
