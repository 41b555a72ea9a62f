"""What crosses a border between processes: records, the bounded channel, and what each side may say."""
