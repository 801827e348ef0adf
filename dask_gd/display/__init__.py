"""What people see of a fit or a search: tables, HTML and pictures, drawn from plain data."""
