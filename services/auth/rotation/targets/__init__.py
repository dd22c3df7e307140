"""Where new secrets are brought to: one courier for each kind of target."""
