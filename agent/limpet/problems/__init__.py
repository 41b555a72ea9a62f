"""What is wrong with a configuration file: sentences for people, with line and column."""
