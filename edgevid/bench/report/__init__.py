"""Renderers of the bench result: Markdown, HTML and its charts. Host only."""
