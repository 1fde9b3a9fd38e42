"""One module a row type: its Arrow schema, with a comment a column."""
