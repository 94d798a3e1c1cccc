"""Parts of recurrent networks: cells, stacks, softmaxes. No data, no files, no loss over a corpus."""
