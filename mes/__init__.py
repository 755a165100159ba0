"""The MES modules: a folder each."""
