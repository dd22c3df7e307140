"""Who may call: organizations, teams, keys and their secrets, and what each may spend."""
