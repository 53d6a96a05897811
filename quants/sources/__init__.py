"""Where models come from: what a source offers, names of files, headers, and the choice of quants."""
