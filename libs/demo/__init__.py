"""Generate flow logs like Azure's in any storage account, along with the truth about their content."""
