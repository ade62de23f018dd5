"""From texts to tokens: encoding, truncation, and the cuts of long texts."""
