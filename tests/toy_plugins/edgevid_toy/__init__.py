"""One tiny plug-in of every kind for edgevid."""
