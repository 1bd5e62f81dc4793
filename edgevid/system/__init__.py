"""What the operating system reports: the only package that reads /proc, /sys and cgroups."""
