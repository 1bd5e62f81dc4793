"""Where frames come from and how they come to the model's size: sources, geometry, clips."""
