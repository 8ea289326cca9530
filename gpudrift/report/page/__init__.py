"""One page for a browser, drawn from a document: a single file that asks nothing of any network."""
