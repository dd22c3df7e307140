"""Realtime sessions: WebSockets whose every answer is a call of its own."""
