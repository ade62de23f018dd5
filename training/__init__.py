"""Fine-tune a BERT-style classifier from a CSV or from lists of names; writes a Hugging Face checkpoint."""
