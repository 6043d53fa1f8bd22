"""An app of the next release, as far as a database sees it: migrations of busy tables."""
