"""Pages and plots that need nothing but a browser: one file, everything inside."""


def shown(value: object) -> str:
    """A value as it stands in a table: floats with four digits, none of them an exponent's."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
