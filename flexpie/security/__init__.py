"""Who may talk to whom: certificates, encrypted channels, and what each role may call. docs/security.md explains it."""
