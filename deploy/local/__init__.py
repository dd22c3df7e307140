"""`make up`: the whole of Tundish on one machine, under one supervisor, in one terminal."""
