"""Commands that are not installed on devices."""
