"""Bad input: it is taken or refused with a typed error, and nothing crashes, hangs or grows."""
