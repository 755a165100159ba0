"""The HTTP side: API, event streams, pages, and the server under clients that behave badly."""
