"""Files for finance: from rows of one snapshot to CSV, XLSX, Parquet and JSON."""
