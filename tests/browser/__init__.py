"""What only a browser can tell: the report and the page as headless Chromium shows them."""
