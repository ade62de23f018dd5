"""Tables as streams of pyarrow record batches: formats, inputs and outputs."""
