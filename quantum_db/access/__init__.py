"""Who may do what: principals, roles and what each role may call."""
