"""Programs that write the generated files of labkit."""
