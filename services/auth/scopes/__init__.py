"""Teams, organizations and budget objects."""
