"""The store on the embedded database: one file, written by one process, read by any number."""
