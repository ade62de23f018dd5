"""Pre-norm encoders with rotary positions (ModernBERT): recognition and rewriting."""
