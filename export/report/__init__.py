"""Reports of an export: tables, pictures and the model card."""
