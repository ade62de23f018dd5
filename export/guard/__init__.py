"""The guard: int8 compared with fp32 on the user's texts, within limits on the change."""
