"""Words to SQL: a question read against a schema, with what was taken for what, or a question back."""
