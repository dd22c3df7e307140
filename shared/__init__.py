"""What the four services have in common: events, money, prices, the bus, the database, errors."""
