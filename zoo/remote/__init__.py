"""Files from other machines: one resumable, verified download, and the address of the released files."""
