"""What only a browser can tell: the report as headless Chromium shows it."""
