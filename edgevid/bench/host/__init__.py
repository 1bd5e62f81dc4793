"""What is done with bench results on a host: comparison, tables, pages and charts."""
