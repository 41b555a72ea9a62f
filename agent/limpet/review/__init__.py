"""``limpet review``: a person looks at captured windows and says what they show."""
