"""Pages and plots that need nothing but a browser: one file, everything inside."""
