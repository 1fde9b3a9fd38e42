"""Flow batches: the Arrow schema of ``Extracted.Flows``, its wire form, and the encoders all destinations share."""
