"""Users and the members of teams."""
