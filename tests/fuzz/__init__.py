"""What a coverage-guided fuzzer (atheris, on libFuzzer) makes up for the parser and for the journal."""
