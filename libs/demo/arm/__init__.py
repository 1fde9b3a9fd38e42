"""An Azure Resource Manager on this machine, for the demo and for tests."""
