"""The data plane: calls to Foundry under virtual keys. It has no database driver.

The way of a call: front door (`data_plane`) → admission (`domain/admission`, `treasury`) → upstream →
meter (`domain/meter`) → journal → publisher.
"""
