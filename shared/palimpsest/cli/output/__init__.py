"""What commands print: tables, JSON, progress, quotes, pages, exit codes."""
