"""Everything that talks to Azure; the only code that imports its SDK."""
