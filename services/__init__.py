"""The four services of Tundish: auth, proxy, ledger, scheduler. They meet in events and HTTP only."""
