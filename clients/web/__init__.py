"""The web page: static files that the server sends as they are."""
