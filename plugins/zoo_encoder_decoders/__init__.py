"""First-party encoder-decoder families, one file each; what came from fairseq shares a file of its own."""
