"""Makes flow logs as Azure makes them, in any storage account, and tells the truth about them."""
