"""Self-contained HTML pages: markup that escapes, tables, and charts as inline SVG with their values beside them."""
