"""Azure Key Vault: reading secrets."""
