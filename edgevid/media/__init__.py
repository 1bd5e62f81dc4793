"""Where frames come from and how they are scaled to a model: sources, decoding, geometry."""
