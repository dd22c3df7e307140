"""What the proxy decides, without touching the world."""
