"""The studies: one file each, with its lab note, `measure`, `draw` and `rows`."""
