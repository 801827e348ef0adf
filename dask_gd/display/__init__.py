"""Show fits and searches to people: tables, HTML and pictures, drawn from plain data."""
