"""In-memory stand-ins for the world around a service."""
